/**
 * Yamux as links use it. In: its options. Out: a muxer whose streams give back their receive window when half of it is used, as yamux's
 * specification allows, not after each frame: on a link that carries small messages every second system call was a window update.
 */
import { type YamuxMuxerInit, yamux } from '@chainsafe/libp2p-yamux';
import type { StreamMuxer, StreamMuxerFactory } from '@libp2p/interface';
import { MeshError } from '../../api/errors.ts';

/** What is used here of yamux's streams; their class is not exported. */
interface Windowed {
  /** Bytes that may still come; the peer knows the same number, as every change of it is sent. */
  readonly recvWindowCapacity: number;
  readonly recvWindow: number;
  readonly state: number;
  sendWindowUpdate(): void;
}
type Muxer = StreamMuxer & { _newStream(...args: unknown[]): Windowed };

/** States in which an update is also what opens the stream (SYN, ACK). */
const OPENING = new Set([0, 2]);

export function lazyYamux(options: YamuxMuxerInit): StreamMuxerFactory {
  const factory = yamux(options)();
  return {
    protocol: factory.protocol,
    createStreamMuxer: (connection) => lazy(factory.createStreamMuxer(connection) as unknown as Muxer),
  };
}

/** Throws YAMUX_CHANGED when a new version of yamux has no such streams. */
function lazy(muxer: Muxer): StreamMuxer {
  const newStream = muxer._newStream?.bind(muxer);
  if (newStream === undefined) throw new MeshError('YAMUX_CHANGED', 'yamux makes its streams in another way');
  muxer._newStream = (...args) => {
    const stream = newStream(...args);
    const update = stream.sendWindowUpdate?.bind(stream);
    if (update === undefined || !(stream.recvWindow > 0))
      throw new MeshError('YAMUX_CHANGED', 'yamux has other receive windows');
    stream.sendWindowUpdate = () => {
      if (OPENING.has(stream.state) || stream.recvWindowCapacity * 2 <= stream.recvWindow) update();
    };
    return stream;
  };
  return muxer;
}

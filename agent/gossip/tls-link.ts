/**
 * TLS 1.3 between two hosts of the mesh, as a libp2p connection encrypter. In: the own host SVID, who may be linked. Out: a decrypted
 * stream and the peer's host id, or an error before any byte of gossip. Must never: take the peer's word for who it is, on either side.
 */
import { constants, type KeyObject, X509Certificate } from 'node:crypto';
import { Socket } from 'node:net';
import { connect, createSecureContext, type SecureContext, TLSSocket } from 'node:tls';
import type {
  ConnectionEncrypter,
  MessageStream,
  PeerId,
  SecureConnectionOptions,
  SecuredConnection,
  StreamMuxerFactory,
} from '@libp2p/interface';
import { AbstractMessageStream, type MessageStreamInit, type SendResult } from '@libp2p/utils';
import { MeshError } from '../../api/errors.ts';
import type { Signer } from './trust.ts';

export const LINK_PROTOCOL = '/hostmesh/tls/2';
const ALPN = 'hostmesh-gossip/1';
const HANDSHAKE_MS = 5000;

export interface TlsLinkDeps {
  identity(): { readonly chainPem: string; readonly privateKey: KeyObject };
  /** Judges the peer's leaf (DER): its host, or an error that says why it is refused. */
  admit(leaf: Uint8Array): Signer;
  peerIdOf(host: string): PeerId;
  onPeer(peer: Signer, leaf: Uint8Array): void;
  onRefused(error: unknown): void;
  /** What every link is multiplexed by: there is nothing to negotiate. */
  readonly muxer: StreamMuxerFactory;
  /** Bytes on the wire, TLS included. */
  onBytes?(direction: 'sent' | 'received', bytes: number): void;
}

export function createTlsLink(deps: TlsLinkDeps): ConnectionEncrypter {
  let contextFor = '';
  let context: SecureContext | undefined;
  /** The SVID is renewed while the agent runs: new handshakes use the new one. */
  const secureContext = (): SecureContext => {
    const { chainPem, privateKey } = deps.identity();
    if (context === undefined || contextFor !== chainPem) {
      context = createSecureContext({
        cert: chainPem,
        key: privateKey.export({ format: 'pem', type: 'pkcs8' }),
        minVersion: 'TLSv1.3',
        secureOptions: constants.SSL_OP_NO_TICKET,
      });
      contextFor = chainPem;
    }
    return context;
  };
  const wrap = (socket: Socket, isServer: boolean): TLSSocket => {
    // Node checks a chain against a store and, on a raw server socket, ignores the result: `admit` below is the check.
    const common = { secureContext: secureContext(), rejectUnauthorized: false, ALPNProtocols: [ALPN] };
    return isServer
      ? new TLSSocket(socket, { ...common, isServer: true, requestCert: true })
      : connect({ ...common, socket, minVersion: 'TLSv1.3' });
  };
  const secure = async (
    raw: MessageStream,
    isServer: boolean,
    options: SecureConnectionOptions = {},
  ): Promise<SecuredConnection> => {
    let socket: TLSSocket | undefined;
    try {
      const tcp = await takeSocket(raw);
      const tls = wrap(tcp, isServer);
      socket = tls;
      if (!process.env.NOFIX) (raw as unknown as { sendReset(): void }).sendReset = () => tls.destroy();
      await handshake(socket, raw, isServer, options.signal);
      const leaf = socket.getPeerX509Certificate()?.raw;
      if (leaf === undefined) throw new MeshError('LINK_REFUSED', 'the peer presents no certificate');
      if (socket.getProtocol() !== 'TLSv1.3' || socket.alpnProtocol !== ALPN) {
        throw new MeshError(
          'LINK_REFUSED',
          `the peer speaks ${socket.getProtocol()} with protocol ${socket.alpnProtocol}`,
        );
      }
      const peer = deps.admit(leaf);
      const remotePeer = deps.peerIdOf(peer.host);
      if (options.remotePeer !== undefined && !options.remotePeer.equals(remotePeer)) {
        throw new MeshError('LINK_WRONG_PEER', `dialled another host and met ${peer.host}`);
      }
      const connection = new TlsStream(socket, { log: raw.log.newScope('tls'), direction: raw.direction });
      if (deps.onBytes !== undefined) countBytes(tcp, socket, deps.onBytes);
      deps.onPeer(peer, leaf);
      return { connection, remotePeer, streamMuxer: deps.muxer };
    } catch (error) {
      socket?.destroy();
      raw.abort(error as Error);
      deps.onRefused(error);
      throw error;
    }
  };
  return {
    protocol: LINK_PROTOCOL,
    secureInbound: (raw, options) => secure(raw, true, options),
    secureOutbound: (raw, options) => secure(raw, false, options),
  };
}

/** Resolves when both sides have proved possession of their certificate's key (RFC 8446 4.4.3). */
function handshake(
  socket: TLSSocket,
  raw: MessageStream,
  isServer: boolean,
  signal: AbortSignal | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => finish(new MeshError('LINK_TIMEOUT', 'the TLS handshake took too long')),
      HANDSHAKE_MS,
    );
    const onAbort = () => finish(new MeshError('LINK_TIMEOUT', 'the connection was given up'));
    const onClose = () => finish(new MeshError('LINK_REFUSED', 'the connection closed during the TLS handshake'));
    const finish = (error?: Error) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      raw.removeEventListener('close', onClose);
      socket.off('error', finish);
      socket.on('error', () => {});
      // Not from within OpenSSL: who is told destroys the connection when he refuses the peer, and Node frees what OpenSSL is still in.
      setImmediate(() => (error === undefined ? resolve() : reject(error)));
    };
    socket.on('error', finish);
    raw.addEventListener('close', onClose);
    if (raw.status !== 'open') onClose();
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once(isServer ? 'secure' : 'secureConnect', () => finish());
  });
}

/**
 * Takes the TCP socket from under a connection of @libp2p/tcp: TLS reads and writes it natively from now on, and not through two streams of
 * JavaScript. The connection goes on to tell when the socket has closed. Throws LIBP2P_CHANGED when there is none to take.
 */
export async function takeSocket(raw: MessageStream): Promise<Socket> {
  const { socket } = raw as { readonly socket?: unknown };
  if (!(socket instanceof Socket)) throw new MeshError('LIBP2P_CHANGED', 'a connection without a TCP socket');
  socket.removeAllListeners('data');
  socket.pause();
  // The peer's first TLS bytes may have come together with its choice of this protocol.
  const putBack = (event: { readonly data: Uint8Array | { subarray(): Uint8Array } }) =>
    socket.unshift(event.data.subarray());
  raw.addEventListener('message', putBack);
  await Promise.resolve(); // what was kept for a listener is told in a microtask
  raw.removeEventListener('message', putBack);
  return socket;
}

/** Tells the bytes on the wire since it was last told, negotiation and handshake too, whenever something has come and when all is over. */
function countBytes(tcp: Socket, tls: TLSSocket, onBytes: NonNullable<TlsLinkDeps['onBytes']>): void {
  const told = { sent: 0, received: 0 };
  const tell = () => {
    const now = { sent: tcp.bytesWritten, received: tcp.bytesRead };
    if (now.sent > told.sent) onBytes('sent', now.sent - told.sent);
    if (now.received > told.received) onBytes('received', now.received - told.received);
    Object.assign(told, now);
  };
  tls.on('data', tell);
  tcp.once('close', tell);
}

/** The decrypted side, as libp2p wants it. */
class TlsStream extends AbstractMessageStream {
  readonly socket: TLSSocket;
  #corked = false;

  constructor(socket: TLSSocket, init: MessageStreamInit) {
    super(init);
    this.socket = socket;
    socket.on('data', (bytes: Uint8Array) => this.onData(bytes));
    socket.on('error', (error: Error) => this.abort(error));
    socket.once('end', () => this.onTransportClosed());
    socket.once('close', () => this.onTransportClosed());
    socket.on('drain', () => this.safeDispatchEvent('drain'));
  }

  override sendData(data: Parameters<AbstractMessageStream['sendData']>[0]): SendResult {
    // One TLS record and one system call for all that a turn of the event loop sends: a frame's header and body come apart.
    if (!this.#corked) {
      this.#corked = true;
      this.socket.cork();
      queueMicrotask(() => {
        this.#corked = false;
        this.socket.uncork();
      });
    }
    const sentBytes = data.byteLength;
    return { sentBytes, canSendMore: this.socket.write(data.subarray()) };
  }

  override sendReset(): void {
    this.socket.destroy();
  }

  override sendPause(): void {
    this.socket.pause();
  }

  override sendResume(): void {
    this.socket.resume();
  }

  override async close(): Promise<void> {
    if (this.status !== 'open') return;
    this.status = 'closing';
    this.writeStatus = 'closing';
    await new Promise<void>((resolve) => {
      this.socket.once('close', resolve);
      this.socket.destroySoon();
    });
    this.onTransportClosed();
  }
}

/** A leaf of a PEM chain in DER: what is presented and what records carry. */
export function leafOf(chainPem: string): Uint8Array {
  return new X509Certificate(chainPem).raw;
}

import type { Stream, StreamMuxer } from '@libp2p/interface';
import t, { type Test } from 'tap';
import { lazyYamux } from '../../../../agent/gossip/muxer.ts';
import { tcpPair } from '../../../builders/tcp-pair.ts';

/** A stream from end to end, and what the far end of it says on the wire. */
async function streams(t: Test, window = 256 * 1024) {
  const [a, b] = await tcpPair(t);
  const options = { enableKeepAlive: false, streamOptions: { initialStreamWindowSize: window } };
  const near: StreamMuxer = lazyYamux(options).createStreamMuxer(a);
  const far: StreamMuxer = lazyYamux(options).createStreamMuxer(b);
  const arrived = new Promise<Stream>((resolve) => far.addEventListener('stream', (event) => resolve(event.detail)));
  const sender = await near.createStream();
  const receiver = await arrived;
  const said = { bytes: 0 };
  a.addEventListener('message', (event) => {
    said.bytes += event.data.byteLength;
  });
  let received = 0;
  const all = (bytes: number) =>
    new Promise<void>((resolve) => {
      receiver.addEventListener('message', (event) => {
        received += event.data.byteLength;
        if (received === bytes) resolve();
      });
    });
  return { sender, receiver, said, all };
}

t.test('small messages cost no window updates', async (t) => {
  const { sender, receiver, said, all } = await streams(t);
  const arrived = all(100 * 1000);
  for (let i = 0; i < 100; i++) sender.send(Buffer.alloc(1000, i));
  await arrived;
  const answer = new Promise((resolve) => sender.addEventListener('message', resolve));
  receiver.send(Buffer.of(1));
  await answer; // and all that was said before it
  t.ok(said.bytes < 4 * 12, `${said.bytes} bytes back: what opens the stream, and a header with the answer`);
});

t.test('what is many times a window passes', async (t) => {
  const { sender, all } = await streams(t);
  const total = 3 * 1024 * 1024;
  const arrived = all(total);
  for (let sent = 0; sent < total; sent += 64 * 1024) {
    if (!sender.send(Buffer.alloc(64 * 1024))) await sender.onDrain();
  }
  await arrived;
  t.pass('all of it');
});

/** Two ends of one TCP connection on loopback, as @libp2p/tcp hands them to libp2p's upgrader. */
import type { MultiaddrConnection } from '@libp2p/interface';
import { defaultLogger } from '@libp2p/logger';
import { tcp } from '@libp2p/tcp';
import { multiaddr } from '@multiformats/multiaddr';
import type { Test } from 'tap';

/** Resolves with the end that dialled and the one that was dialled; both are gone when the test ends. */
export async function tcpPair(t: Test): Promise<[MultiaddrConnection, MultiaddrConnection]> {
  const transport = tcp()({ logger: defaultLogger() });
  const ends = Promise.withResolvers<MultiaddrConnection>();
  const listener = transport.createListener({
    upgrader: { upgradeInbound: async (connection: MultiaddrConnection) => ends.resolve(connection) } as never,
  });
  await listener.listen(multiaddr('/ip4/127.0.0.1/tcp/0'));
  const dialled = Promise.withResolvers<MultiaddrConnection>();
  await transport.dial(listener.getAddrs()[0] as never, {
    signal: AbortSignal.timeout(5000),
    upgrader: { upgradeOutbound: async (connection: MultiaddrConnection) => dialled.resolve(connection) } as never,
  });
  const pair: [MultiaddrConnection, MultiaddrConnection] = [await dialled.promise, await ends.promise];
  t.teardown(async () => {
    for (const end of pair) end.abort(new Error('the test is over'));
    await listener.close();
  });
  return pair;
}

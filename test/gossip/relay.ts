/** A TCP relay on loopback that can go silent: what is in between two hosts when a NAT forgets a connection, or one of them loses power. */
import { createServer, connect as dial, type Socket } from 'node:net';

export interface Relay {
  /** From now on nothing passes and nothing closes: both ends see an open connection. Bytes that arrive are not read either (`deaf`) or dropped. */
  silence(deaf?: boolean): void;
  /** Connections that came in. */
  readonly count: number;
  stop(): Promise<void>;
}

export async function createRelay(
  listen: { address: string; port: number },
  target: { address: string; port: number },
): Promise<Relay> {
  const sockets = new Set<Socket>();
  let silent = false;
  let count = 0;
  const join = (from: Socket, to: Socket) => {
    sockets.add(from);
    from.on('data', (bytes) => !silent && to.write(bytes));
    from.on('error', () => {});
    from.on('close', () => {
      sockets.delete(from);
      if (!silent) to.destroy();
    });
  };
  const server = createServer((incoming) => {
    count += 1;
    if (silent) {
      sockets.add(incoming); // unread, it would never see its other end close, and hold the server open
      return void incoming.on('error', () => {});
    }
    const outgoing = dial(target.port, target.address);
    join(incoming, outgoing);
    join(outgoing, incoming);
  });
  await new Promise<void>((resolve) => server.listen(listen.port, listen.address, resolve));
  return {
    silence(deaf = false) {
      silent = true;
      if (deaf) for (const socket of sockets) socket.pause();
    },
    get count() {
      return count;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

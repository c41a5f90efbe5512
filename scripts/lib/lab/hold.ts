/**
 * First stage of a supervisor: opens the sockets that it is to hold, hands their file descriptors to the second stage and ends. A process
 * of its own because Node reads from every socket it opened itself; a descriptor that is only inherited stays unread in the kernel.
 */
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { HeldSocket, SupervisorSpec } from './supervisor-spec.ts';

/** The descriptor of an open socket. `_handle` is Node's internal, the only way to it; it is checked. */
function descriptor(socket: object): number {
  const fd = (socket as { _handle?: { fd?: unknown } })._handle?.fd;
  if (typeof fd !== 'number' || fd < 0) throw new Error('this Node does not show the descriptor of a socket');
  return fd;
}

async function open({ type, address, port }: HeldSocket): Promise<number> {
  if (type === 'udp') {
    const socket = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4', ipv6Only: address.includes(':') });
    socket.bind({ address, port });
    await once(socket, 'listening');
    return descriptor(socket);
  }
  const server = createServer();
  server.listen({ host: address, port, backlog: 128, ipv6Only: address.includes(':') });
  await once(server, 'listening');
  return descriptor(server);
}

const [specPath = '', logPath = ''] = process.argv.slice(2);
const spec = JSON.parse(readFileSync(specPath, 'utf8')) as SupervisorSpec;
const fds: number[] = [];
for (const held of spec.sockets) fds.push(await open(held));
const log = openSync(logPath, 'a', 0o640);
const child = spawn(process.execPath, [join(import.meta.dirname, 'supervisor.ts'), specPath], {
  stdio: ['ignore', log, log, ...fds],
  detached: true,
});
await once(child, 'spawn');
process.exit(0);

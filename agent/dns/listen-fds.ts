import { readlink } from 'node:fs/promises';
import type { Listener, Sockets } from '../host/sockets.ts';

/** A socket that systemd (or the lab) opened for us, sd_listen_fds(3). */
export interface InheritedSocket {
  readonly fd: number;
  readonly protocol: 'udp' | 'tcp';
  readonly family: 'v4' | 'v6';
  readonly address: string;
  readonly port: number;
}

const FIRST_FD = 3;
const MAX_FDS = 256;

/**
 * The sockets passed by LISTEN_FDS. Names are not needed: each descriptor is told by its inode in /proc/net, where protocol, address and port
 * stand. LISTEN_PID must be ours when it is set. Descriptors that are no bound IP socket are left out.
 */
export async function inheritedSockets(
  sockets: Sockets,
  env: Readonly<Record<string, string | undefined>> = process.env,
  fdPath = '/proc/self/fd',
): Promise<InheritedSocket[]> {
  const count = Number(env.LISTEN_FDS ?? 0);
  const forUs = env.LISTEN_PID === undefined || Number(env.LISTEN_PID) === process.pid;
  if (!forUs || !Number.isInteger(count) || count < 1 || count > MAX_FDS) return [];
  const [tcp, udp] = await Promise.all([sockets.listeners(), sockets.udp()]);
  const found: InheritedSocket[] = [];
  for (let fd = FIRST_FD; fd < FIRST_FD + count; fd++) {
    const inode = Number(/^socket:\[(\d+)\]$/.exec(await readlink(`${fdPath}/${fd}`).catch(() => ''))?.[1]);
    const take = (protocol: 'udp' | 'tcp', list: readonly Listener[]) => {
      const match = list.find((socket) => socket.inode === inode);
      if (match !== undefined)
        found.push({ fd, protocol, family: match.family, address: match.address, port: match.port });
    };
    take('tcp', tcp);
    take('udp', udp);
  }
  return found;
}

import type { Listener, Sockets } from '../../agent/host/sockets.ts';
import type { Users } from '../../agent/host/users.ts';
import { MeshError } from '../../api/errors.ts';

/** A host whose sockets and users a test decides. `hidden`: inodes whose holders this process may not see. */
export class FakeHost implements Sockets, Users {
  tcp: Listener[] = [];
  udpSockets: Listener[] = [];
  readonly holderUids = new Map<number, Set<number>>();
  readonly passwd = new Map<string, number>();
  /** How often holders were looked for: the look through /proc/PID/fd is the dear one. */
  holderLooks = 0;
  failure: Error | undefined;
  private inode = 1000;

  /** Adds a listening socket and returns its inode. */
  listen(port: number, uid: number, address = '0.0.0.0', heldBy: readonly number[] = [uid]): number {
    const inode = this.inode++;
    this.tcp.push({ family: address.includes(':') ? 'v6' : 'v4', address, port, uid, inode });
    if (heldBy.length > 0) this.holderUids.set(inode, new Set(heldBy));
    return inode;
  }

  close(port: number): void {
    this.tcp = this.tcp.filter((socket) => socket.port !== port);
  }

  async listeners(): Promise<Listener[]> {
    if (this.failure) throw this.failure;
    return [...this.tcp];
  }

  async udp(): Promise<Listener[]> {
    return [...this.udpSockets];
  }

  async holders(inodes: ReadonlySet<number>): Promise<Map<number, Set<number>>> {
    this.holderLooks++;
    return new Map([...this.holderUids].filter(([inode]) => inodes.has(inode)));
  }

  async uid(name: string): Promise<number> {
    const uid = this.passwd.get(name);
    if (uid === undefined) throw new MeshError('USER_UNKNOWN', `no such user: ${name}`);
    return uid;
  }
}

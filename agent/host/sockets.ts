import { closeSync, openSync, readSync } from 'node:fs';
import { readdir, readlink, stat } from 'node:fs/promises';
import { effectiveUid } from './processes.ts';

/** One listening TCP socket of this network namespace. `inode` is its identity for as long as it lives. */
export interface Listener {
  readonly family: 'v4' | 'v6';
  /** Textual address; `::` also takes IPv4 unless the socket is V6ONLY, which /proc does not tell. */
  readonly address: string;
  readonly port: number;
  readonly uid: number;
  readonly inode: number;
}

/** What the host can tell about listening sockets; faked in tests. */
export interface Sockets {
  /** All listening TCP sockets, both families. */
  listeners(): Promise<Listener[]>;
  /** All bound, unconnected UDP sockets, both families. */
  udp(): Promise<Listener[]>;
  /** Effective uids of the processes that hold each given socket. Needs root (or the same uid); what cannot be read is left out. */
  holders(inodes: ReadonlySet<number>): Promise<Map<number, Set<number>>>;
}

const LISTEN = '0A';
const UNCONNECTED = '07';
const MAX_BYTES = 16 << 20;

/** Reads /proc (`procPath` is for tests). Costs O(listening sockets), not O(connections): see readListening. */
export function createSockets(procPath = '/proc'): Sockets {
  return {
    async listeners() {
      const [v4, v6] = [readListening(`${procPath}/net/tcp`), readListening(`${procPath}/net/tcp6`)];
      return [...parseListeners(v4, 'v4'), ...parseListeners(v6, 'v6')];
    },
    async udp() {
      const [v4, v6] = [readHead(`${procPath}/net/udp`, () => false), readHead(`${procPath}/net/udp6`, () => false)];
      return [...parseListeners(v4, 'v4', UNCONNECTED), ...parseListeners(v6, 'v6', UNCONNECTED)];
    },
    holders: (inodes) => findHolders(procPath, inodes),
  };
}

/**
 * The head of /proc/net/tcp up to the first line that is not LISTEN: the kernel lists listening sockets first (tcp_seq_start), so a host
 * with 100,000 connections costs no more.
 */
function readListening(path: string): string {
  return readHead(path, (line) => line.trim().split(/\s+/)[3] !== LISTEN);
}

/**
 * Reads until a complete line (the heading aside) meets `enough`, the end, or MAX_BYTES. Empty when the file is missing (no IPv6).
 * Synchronous: the kernel makes these lines in memory, in microseconds, while four trips through the thread pool, each second, cost a
 * third of an idle agent's CPU.
 */
function readHead(path: string, enough: (line: string) => boolean): string {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
  try {
    const parts: string[] = [];
    const buffer = Buffer.alloc(32 << 10);
    for (let size = 0, heading = true; size < MAX_BYTES; ) {
      const bytesRead = readSync(file, buffer, 0, buffer.length, null);
      if (bytesRead === 0) break;
      size += bytesRead;
      const part = buffer.toString('latin1', 0, bytesRead);
      parts.push(part);
      const lines = part.split('\n').slice(heading ? 1 : 0, -1); // seq_file hands out whole lines
      heading = false;
      const last = lines[lines.length - 1];
      if (last !== undefined && enough(last)) break;
    }
    return parts.join('');
  } finally {
    closeSync(file);
  }
}

/** Sockets in `wantedState` (default LISTEN) in the text of /proc/net/tcp, tcp6, udp or udp6 (proc(5)); broken lines are left out. */
export function parseListeners(text: string, family: 'v4' | 'v6', wantedState = LISTEN): Listener[] {
  const found: Listener[] = [];
  for (const line of text.split('\n').slice(1)) {
    const [, local = '', , state, , , , uid, , inode] = line.trim().split(/\s+/);
    const [hex = '', port = ''] = local.split(':');
    if (state !== wantedState || hex.length !== (family === 'v4' ? 8 : 32)) continue;
    found.push({
      family,
      address: family === 'v4' ? address4(hex) : address6(hex),
      port: Number.parseInt(port, 16),
      uid: Number(uid),
      inode: Number(inode),
    });
  }
  return found;
}

function address4(hex: string): string {
  return bytesOfWord(hex).join('.');
}

/** Four words, each in host byte order (little-endian on every platform that we ship for). */
function address6(hex: string): string {
  const bytes = [0, 8, 16, 24].flatMap((at) => bytesOfWord(hex.slice(at, at + 8)));
  const groups = Array.from({ length: 8 }, (_, i) =>
    (((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0)).toString(16),
  );
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1); // RFC 5952 form
}

function bytesOfWord(hex: string): number[] {
  return [6, 4, 2, 0].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}

async function findHolders(procPath: string, inodes: ReadonlySet<number>): Promise<Map<number, Set<number>>> {
  const found = new Map<number, Set<number>>();
  if (inodes.size === 0) return found;
  const wanted = new Map([...inodes].map((inode) => [`socket:[${inode}]`, inode]));
  for (const pid of await readdir(procPath)) {
    if (!/^\d+$/.test(pid)) continue;
    const fds = await readdir(`${procPath}/${pid}/fd`).catch(() => [] as string[]); // gone, or not ours to read
    if (fds.length === 0) continue;
    const links = await Promise.all(fds.map((fd) => readlink(`${procPath}/${pid}/fd/${fd}`).catch(() => '')));
    const held = links.map((link) => wanted.get(link)).filter((inode) => inode !== undefined);
    if (held.length === 0) continue;
    const uid = await effectiveUid(procPath, pid);
    for (const inode of held)
      if (uid !== undefined) (found.get(inode) ?? found.set(inode, new Set()).get(inode))?.add(uid);
  }
  return found;
}

/** Inode of this process's network namespace: rules, state and sockets belong to it. */
export async function networkNamespace(procPath = '/proc'): Promise<number> {
  return (await stat(`${procPath}/self/ns/net`)).ino;
}

/** What /proc says of the sockets that listen on one port, judged by DESIGN 3.5. */
export type PortOwnership =
  | { readonly state: 'owned' }
  | { readonly state: 'absent'; readonly reason: string }
  | { readonly state: 'foreign'; readonly uid: number; readonly reason: string }
  /** A root socket, and this process may not see who holds it. */
  | { readonly state: 'unproved'; readonly inodes: readonly number[]; readonly reason: string };

/**
 * DESIGN 3.5: a port is the workload's while every socket that listens on it belongs to one of `ownerUids`, or to root with a process of
 * such a uid holding it (nginx, socket units). One foreign socket in either family is enough to refuse: a stranger on [::]:PORT would be
 * handed the inbound traffic of an IPv4-only application. A stranger on a loopback address is not: what the proxy hands over keeps its
 * destination, which is never one; or any user could take an IPv4-only workload out by binding [::1]:PORT. `holders` by inode; an inode that
 * is missing there is unproved.
 */
export function judgePort(
  port: number,
  ownerUids: ReadonlySet<number>,
  listeners: readonly Listener[],
  holders: ReadonlyMap<number, ReadonlySet<number>>,
): PortOwnership {
  const all = listeners.filter((listener) => listener.port === port);
  if (all.length === 0) return { state: 'absent', reason: `nothing listens on port ${port}` };
  const ownerOf = (listener: Listener) => ownership(listener, ownerUids, holders);
  const reachable = all.filter((listener) => !isLoopback(listener.address));
  const here = reachable.some((listener) => ownerOf(listener) === 'own') ? reachable : all;
  const foreign = here.find((listener) => ownerOf(listener) === 'foreign');
  if (foreign !== undefined)
    return {
      state: 'foreign',
      uid: foreign.uid,
      reason: `port ${port} is listened on by uid ${foreign.uid}, not by ${[...ownerUids].join(', ') || 'anyone allowed'}`,
    };
  const unproved = here.filter((listener) => ownerOf(listener) === 'unproved').map(({ inode }) => inode);
  if (unproved.length > 0)
    return { state: 'unproved', inodes: unproved, reason: `port ${port} is root's; holder unknown` };
  if (reachable.length === 0)
    return { state: 'absent', reason: `port ${port} is listened on at loopback addresses only` };
  return { state: 'owned' };
}

/**
 * The foreign socket for which connections to `port` by one family are to be left alone; undefined: they are the workload's to guard. Not
 * while the workload's own socket takes them too: a stranger beside it, in the other family or on another address, must not open its port
 * to everyone.
 */
export function strangerOn(
  port: number,
  family: 'v4' | 'v6',
  ownerUids: ReadonlySet<number>,
  listeners: readonly Listener[],
  holders: ReadonlyMap<number, ReadonlySet<number>>,
): Listener | undefined {
  const all = listeners.filter((listener) => listener.port === port);
  // Beside a socket on 0.0.0.0, one on :: can only be IPv6's.
  const dual = !all.some((listener) => listener.address === '0.0.0.0');
  const here = all.filter((l) => l.family === family || (family === 'v4' && dual && l.address === '::'));
  const ownerOf = (listener: Listener) => ownership(listener, ownerUids, holders);
  if (here.some((listener) => ownerOf(listener) === 'own' && !isLoopback(listener.address))) return undefined;
  return here.find((listener) => ownerOf(listener) === 'foreign');
}

function ownership(
  { uid, inode }: Listener,
  ownerUids: ReadonlySet<number>,
  holders: ReadonlyMap<number, ReadonlySet<number>>,
): 'own' | 'foreign' | 'unproved' {
  if (ownerUids.has(uid)) return 'own';
  if (uid !== 0) return 'foreign';
  const held = holders.get(inode);
  if (held === undefined) return 'unproved';
  return [...held].some((holder) => ownerUids.has(holder)) ? 'own' : 'foreign';
}

function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.');
}

import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';

/** Where foreign names are asked, in order of preference; what the host appends to short names. */
export interface Resolvers {
  readonly servers: readonly string[];
  readonly search: readonly string[];
  /**
   * Where `servers` is systemd-resolved, the servers that it asks itself: for names that it sends to us, which it would send to us again.
   * Undefined where it is another one.
   */
  readonly uplinks?: readonly string[];
}

/** systemd-resolved's own listeners. */
const STUBS = ['127.0.0.53', '127.0.0.54'];

const MAX_SERVERS = 3; // MAXNS of resolv.conf(5)
const MAX_SEARCH = 32;
const MAX_BYTES = 64 << 10;

/** Reads resolv.conf(5); broken lines are left out, the last `search` or `domain` wins. */
export function parseResolvConf(text: string): Resolvers {
  const servers: string[] = [];
  let search: string[] = [];
  for (const line of text.slice(0, MAX_BYTES).split('\n')) {
    const [key, ...values] = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/);
    if (key === 'nameserver' && values[0] !== undefined && isIP(values[0]) !== 0) servers.push(values[0]);
    if (key === 'search' || key === 'domain') search = values.map((value) => value.toLowerCase().replace(/\.$/, ''));
  }
  return {
    servers: [...new Set(servers)].slice(0, MAX_SERVERS),
    search: search.filter((d) => d !== '').slice(0, MAX_SEARCH),
  };
}

/** `uplinks`: text of resolved's own list (/run/systemd/resolve/resolv.conf), which leaves out servers on other ports than 53: ours. */
export function withUplinks(found: Resolvers, uplinks: string): Resolvers {
  if (!found.servers.some((server) => STUBS.includes(server))) return found;
  return { ...found, uplinks: parseResolvConf(uplinks).servers.filter((server) => !STUBS.includes(server)) };
}

/**
 * The resolvers to forward to: agent.yaml's, else those of resolv.conf now, else those that it had at an earlier start (a file that is empty
 * or gone at boot must not cut names off). What was found is persisted.
 */
export async function findResolvers(options: {
  configured: readonly string[];
  resolvConf: string;
  persistPath: string;
  /** resolved's own list; read only where resolvConf leads to resolved. */
  uplinkConf?: string;
}): Promise<Resolvers> {
  const found = await findServers(options);
  return withUplinks(found, await readFile(options.uplinkConf ?? '', 'utf8').catch(() => ''));
}

async function findServers(options: {
  configured: readonly string[];
  resolvConf: string;
  persistPath: string;
}): Promise<Resolvers> {
  const now = parseResolvConf(await readFile(options.resolvConf, 'utf8').catch(() => ''));
  if (options.configured.length > 0) return { servers: options.configured, search: now.search };
  if (now.servers.length === 0) {
    const servers = await readPersisted(options.persistPath);
    return { servers, search: now.search };
  }
  await writeFileAtomic(options.persistPath, `${JSON.stringify(now.servers)}\n`).catch(() => {}); // a full disk must not stop DNS
  return now;
}

async function readPersisted(path: string): Promise<string[]> {
  try {
    const list: unknown = JSON.parse(await readFile(path, 'utf8'));
    return Array.isArray(list) ? list.filter((s) => typeof s === 'string' && isIP(s) !== 0).slice(0, MAX_SERVERS) : [];
  } catch {
    return [];
  }
}

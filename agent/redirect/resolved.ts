import { readlink } from 'node:fs/promises';
import { errorLine } from '../../api/errors.ts';
import type { Exec } from '../host/exec.ts';
import type { MeshResolver, RedirectSpec } from './spec.ts';

/**
 * The link by which systemd-resolved asks the agent for the mesh's names and for no other: with nss-resolve a program's look-up is no packet of
 * its user, so no rule can lead it. It carries no traffic.
 */
export const LINK = 'hostmesh';
/** Tells our link from one that somebody else named so. */
const ALIAS = 'Hostmesh DNS';
/** resolved uses a link only with an address that looks global; this one is reserved to stand for nobody (RFC 7600). */
const ADDRESS = '192.0.0.8/32';
/** resolvectl waits for the bus for 25 s; on Debian 12 a resolved that was installed on a running host is not on it before its restart. */
const BUS_MS = 3000;

/** What is there of ours, and whether resolved answers on this host. */
export interface ResolvedState {
  /** systemd-resolved runs in this network namespace. */
  readonly active: boolean;
  readonly link: 'none' | 'ours' | 'foreign';
  /** What resolved has for our link, in resolvectl's own order: server, then domains. */
  readonly server: string;
  readonly domains: string;
}

/** Reads the link and, where there is one, what resolved knows about it. Never throws: without systemd nothing is there. */
export async function readResolved(exec: Exec, procPath = '/proc'): Promise<ResolvedState> {
  const [active, shown] = await Promise.all([
    isActive(exec, procPath),
    exec('ip', ['-o', '-d', 'link', 'show', 'dev', LINK]).catch(() => undefined),
  ]);
  const link = shown?.code !== 0 ? 'none' : shown.stdout.includes(`alias ${ALIAS}`) ? 'ours' : 'foreign';
  if (!active || link !== 'ours') return { active, link, server: '', domains: '' };
  const [server, domains] = await Promise.all(['dns', 'domain'].map((verb) => shownBy(exec, verb)));
  return { active, link, server: server ?? '', domains: domains ?? '' };
}

/** True when resolved is to be told nothing. `wanted`: undefined where no link of ours should be. */
export function resolvedStands(state: ResolvedState, wanted: MeshResolver | undefined): boolean {
  if (wanted === undefined || !state.active || state.link === 'foreign') return state.link !== 'ours';
  return state.link === 'ours' && state.server === serverOf(wanted) && state.domains === domainsOf(wanted).join(' ');
}

/**
 * Makes, changes or removes the link. Returns what was done and why it could not be: a host whose resolved cannot be told goes on without,
 * since its other names must not hang on ours.
 */
export async function setResolved(
  exec: Exec,
  state: ResolvedState,
  wanted: MeshResolver | undefined,
): Promise<{ done: string[]; warnings: string[] }> {
  if (resolvedStands(state, wanted)) {
    const taken = wanted !== undefined && state.active && state.link === 'foreign';
    const warning = `systemd-resolved does not know the mesh's names: a link named ${LINK} is there that is not ours`;
    return { done: [], warnings: taken ? [warning] : [] };
  }
  if (wanted === undefined || !state.active) {
    await exec('ip', ['link', 'delete', 'dev', LINK]);
    return { done: [`link ${LINK} removed`], warnings: [] };
  }
  try {
    if (state.link === 'none') await makeLink(exec);
    for (const args of [
      ['default-route', LINK, 'no'],
      ['llmnr', LINK, 'no'],
      ['mdns', LINK, 'no'],
      // the mesh's answers are not signed, and leave this host by no wire
      ['dnssec', LINK, 'no'],
      ['dnsovertls', LINK, 'no'],
      ['domain', LINK, ...domainsOf(wanted)],
      ['dns', LINK, serverOf(wanted)],
    ])
      await run(exec, 'resolvectl', args);
    return { done: [`systemd-resolved asks the agent for ${domainsOf(wanted).length} domains`], warnings: [] };
  } catch (error) {
    await exec('ip', ['link', 'delete', 'dev', LINK]).catch(() => {});
    const hint = 'restart systemd-resolved if it was installed or upgraded lately';
    return { done: [], warnings: [`systemd-resolved does not know the mesh's names: ${errorLine(error)}; ${hint}`] };
  }
}

/** What a spec asks resolved to know; undefined where DNS is not captured. */
export function resolverOf(spec: RedirectSpec): MeshResolver | undefined {
  return spec.dns && spec.workloads.length > 0 ? spec.resolver : undefined;
}

function serverOf({ port }: MeshResolver): string {
  return `127.0.0.1:${port}`;
}

function domainsOf({ search, route }: MeshResolver): string[] {
  return [...search, ...route.map((domain) => `~${domain}`)];
}

async function makeLink(exec: Exec): Promise<void> {
  // not every kernel has the dummy device
  const dummy = await exec('ip', ['link', 'add', 'name', LINK, 'type', 'dummy']);
  if (dummy.code !== 0) await run(exec, 'ip', ['link', 'add', 'name', LINK, 'type', 'bridge']);
  await run(exec, 'ip', ['link', 'set', 'dev', LINK, 'alias', ALIAS]);
  await run(exec, 'ip', ['link', 'set', 'dev', LINK, 'addrgenmode', 'none']);
  await run(exec, 'ip', ['address', 'add', ADDRESS, 'dev', LINK]);
  await run(exec, 'ip', ['link', 'set', 'dev', LINK, 'up']);
  // resolved hears of links from the kernel, a moment later than we do
  for (let tries = 0; tries < 20; tries++) {
    const { code } = await exec('resolvectl', ['dns', LINK], { timeoutMs: BUS_MS });
    if (code === 0) return;
  }
}

async function run(exec: Exec, file: string, args: readonly string[]): Promise<void> {
  const { code, stderr } = await exec(file, args, { timeoutMs: BUS_MS });
  if (code !== 0) throw new Error(`${file} ${args.slice(0, 2).join(' ')}: ${stderr.trim().split('\n')[0]}`);
}

/** `Link 6 (hostmesh): 127.0.0.1:15053` */
async function shownBy(exec: Exec, verb: string): Promise<string> {
  const shown = await exec('resolvectl', [verb, LINK], { timeoutMs: BUS_MS }).catch(() => undefined);
  return shown?.code === 0 ? shown.stdout.replace(/^[^:]*:/, '').trim() : '';
}

/** A resolved of another namespace (this machine's, in a lab) would take our link's number for one of its own. */
async function isActive(exec: Exec, procPath: string): Promise<boolean> {
  const unit = ['show', '--property=ActiveState,MainPID', 'systemd-resolved.service'];
  const shown = await exec('systemctl', unit, { timeoutMs: BUS_MS }).catch(() => undefined);
  const pid = /^MainPID=([1-9]\d*)$/m.exec(shown?.stdout ?? '')?.[1];
  if (pid === undefined || !/^ActiveState=active$/m.test(shown?.stdout ?? '')) return false;
  const space = (of: string) => readlink(`${procPath}/${of}/ns/net`).catch(() => of);
  return (await space('self')) === (await space(pid));
}

import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { errorLine, MeshError } from '../../api/errors.ts';
import type { Exec } from '../host/exec.ts';
import type { Sockets } from '../host/sockets.ts';
import { allBackends, type Backend, type BackendName, detectBackend } from './backend.ts';
import { checkListeners, judgeInbound, type RootSocket, type UncapturedPort } from './listeners.ts';
import { dropAddress, readLo, setLo } from './routes.ts';
import { capturesDns, NO_RULES, renderRules } from './rules.ts';
import { type Family, familyOf, type RedirectSpec } from './spec.ts';
import {
  currentPlace,
  loadState,
  openStateDir,
  type RedirectState,
  removeState,
  saveState,
  withLock,
} from './state.ts';
import {
  isClean,
  type OwnedTable,
  ownedText,
  type ReadTable,
  readTable,
  restoreText,
  sameTable,
  TABLES,
  type TableName,
} from './tables.ts';

/** What the oneshot works with. `stateDir`: a folder that only root can write. */
export interface ApplyDeps {
  readonly exec: Exec;
  readonly sockets: Sockets;
  readonly stateDir: string;
  readonly now: () => number;
  /** Starts a process that outlives this one and cleans up after `ms` unless `id` was confirmed. */
  readonly startRevert?: (id: string, ms: number) => void;
  readonly procPath?: string;
}

export interface ApplyOptions {
  readonly agentUid: number;
  /** First-time rules go again after this long unless the agent confirms; 0: never. */
  readonly revertAfterMs: number;
  /** Id that the agent has confirmed, if any. */
  readonly confirmedId?: string;
}

/** What a run did. */
export interface ApplyOutcome {
  readonly changed: boolean;
  readonly backend: BackendName;
  readonly families: readonly Family[];
  readonly uncaptured: readonly UncapturedPort[];
  readonly rootSockets: readonly RootSocket[];
  readonly warnings: readonly string[];
  readonly revert?: { readonly id: string; readonly deadline: number };
}

type Tables = ReadonlyMap<Family, ReadonlyMap<TableName, ReadTable>>;

/**
 * Brings the kernel to `spec` (already permitted by policy.ts): checks the listeners, then routes, then per family one restore, guards
 * first. Same input, no change. When a step fails, what was there before is put back and MeshError names the cause.
 */
export async function applyRedirect(deps: ApplyDeps, spec: RedirectSpec, options: ApplyOptions): Promise<ApplyOutcome> {
  await openStateDir(deps.stateDir);
  return withLock(deps.stateDir, async () => {
    const [backend, families] = await Promise.all([
      detectBackend(deps.exec, deps.procPath),
      usableFamilies(spec.families, deps.procPath),
    ]);
    await checkListeners(deps.sockets, spec, families, options.agentUid);
    const { captured, uncaptured, rootSockets } = await judgeInbound(deps.sockets, spec);
    const [before, lo, stored] = await Promise.all([
      readAll(backend, families),
      readLo(deps.exec, families),
      loadState(deps.stateDir),
    ]);
    const state = stored ?? (await firstState(before, lo.address));
    if (stored === undefined) await saveState(deps.stateDir, state);
    const first = isAllClean(before);
    const wanted = new Map(families.map((family) => [family, renderRules(captured, family)]));
    const done: string[] = [];
    try {
      const ranges = captured.vipRanges.filter((range) => families.includes(familyOf(range)));
      done.push(...(await setLo(deps.exec, lo, ranges, families.includes('v6'))));
      for (const family of families) done.push(...(await writeFamily(backend, family, before, wanted, state)));
    } catch (error) {
      throw await rollBack(deps, backend, before, state, first, error);
    }
    const warnings = done.length > 0 && capturesDns(captured) ? await forgetDns(deps.exec, [53], 'after') : [];
    const after = done.length > 0 ? await readAll(backend, families) : before;
    const next = await armed(deps, { ...state, applied: record(wanted, after) }, options, first);
    if (JSON.stringify(next) !== JSON.stringify(stored)) await saveState(deps.stateDir, next);
    return {
      changed: done.length > 0,
      backend: backend.name,
      families,
      uncaptured,
      rootSockets,
      warnings,
      revert: next.revert,
    };
  });
}

/** Takes everything of ours out again, whichever backend it is in; what is gone already is no error. Returns whether there was anything. */
export async function cleanRedirect(
  deps: ApplyDeps,
  unless?: (state: RedirectState | undefined) => boolean,
): Promise<{ changed: boolean; warnings: string[] }> {
  await openStateDir(deps.stateDir);
  return withLock(deps.stateDir, async () => {
    const state = await loadState(deps.stateDir);
    if (unless?.(state) === true) return { changed: false, warnings: [] };
    return cleanUnlocked(deps, state);
  });
}

async function cleanUnlocked(
  deps: ApplyDeps,
  state: RedirectState | undefined,
): Promise<{ changed: boolean; warnings: string[] }> {
  const families = await usableFamilies(['v4', 'v6'], deps.procPath, true);
  let changed = false;
  const dnsPorts = new Set<number>();
  let reachedAddress = false;
  for (const backend of await allBackends(deps.exec, deps.procPath)) {
    for (const [family, tables] of await readAll(backend, families)) {
      for (const port of redirectedDnsPorts(tables.get('nat'))) dnsPorts.add(port);
      // nat before filter: the guards stand until nothing is redirected any more
      const text = [...TABLES]
        .reverse()
        .map((name) => restoreText(name, tables.get(name)!, NO_RULES.get(name)!))
        .join('');
      if (text !== '') await backend.restore(family, text);
      if (text !== '' && family === 'v6') reachedAddress = true;
      changed ||= text !== '';
      for (const name of TABLES)
        if (state?.absentBefore.includes(`${family}/${name}`)) await backend.dropIfEmpty(family, name);
    }
  }
  const lo = await readLo(deps.exec, families);
  changed = (await setLo(deps.exec, lo, [], false)).length > 0 || changed;
  // Without a state, ::6 is ours if rules of ours stood beside it: nobody else has a use for this address.
  if (lo.address && (state === undefined ? reachedAddress : !state.addressBefore)) {
    await dropAddress(deps.exec);
    changed = true;
  }
  const warnings = dnsPorts.size > 0 ? await forgetDns(deps.exec, [...dnsPorts], 'before') : [];
  await removeState(deps.stateDir);
  return { changed, warnings };
}

/** Reads what is ours in both tables of each family. */
export async function readAll(backend: Backend, families: readonly Family[]): Promise<Tables> {
  const saves = await Promise.all(families.map((family) => backend.save(family)));
  return new Map(
    families.map((family, i) => [family, new Map(TABLES.map((name) => [name, readTable(saves[i] ?? '', name)]))]),
  );
}

/**
 * Families asked for that this namespace has: where `lo` has no ::1, IPv6 is switched off and there is no traffic to capture. `any`: also
 * then, as long as the kernel knows IPv6 (clean-up).
 */
export async function usableFamilies(families: readonly Family[], procPath = '/proc', any = false): Promise<Family[]> {
  const addresses = await readFile(`${procPath}/net/if_inet6`, 'utf8').catch(() => undefined);
  const has6 = addresses !== undefined && (any || / lo$/m.test(addresses));
  return families.filter((family) => family === 'v4' || has6);
}

/** True when the kernel's part is what was wanted, either literally or as this iptables showed the same text when it was written. */
export function upToDate(
  current: ReadTable,
  wanted: OwnedTable,
  seen: { wanted: string; shown: string } | undefined,
): boolean {
  if (sameTable(current, wanted)) return true;
  return current.jumpsLead && seen?.wanted === ownedText(wanted) && seen.shown === ownedText(current);
}

async function writeFamily(
  backend: Backend,
  family: Family,
  before: Tables,
  wanted: ReadonlyMap<Family, ReadonlyMap<TableName, OwnedTable>>,
  state: RedirectState,
): Promise<string[]> {
  const stale = TABLES.filter(
    (name) =>
      !upToDate(before.get(family)!.get(name)!, wanted.get(family)!.get(name)!, state.applied[`${family}/${name}`]),
  );
  if (stale.length === 0) return [];
  const text = stale
    .map((name) => restoreText(name, before.get(family)!.get(name)!, wanted.get(family)!.get(name)!))
    .join('');
  await backend.restore(family, text);
  const after = (await readAll(backend, [family])).get(family)!;
  for (const name of stale) verify(family, name, after.get(name)!, wanted.get(family)!.get(name)!);
  return stale.map((name) => `${family}/${name}`);
}

/** iptables-restore said yes; still the kernel is asked: as many rules in each chain as were written, and our jumps in the lead. */
function verify(family: Family, name: TableName, after: ReadTable, wanted: OwnedTable): void {
  const same =
    after.jumpsLead &&
    after.jumps.length === wanted.jumps.length &&
    after.chains.size === wanted.chains.size &&
    [...wanted.chains].every(([chain, rules]) => after.chains.get(chain)?.length === rules.length);
  if (!same)
    throw new MeshError('REDIRECT_VERIFY', `${family} ${name}: the kernel does not have the rules that were written`);
}

/** Puts back what stood before; the error that started it is returned with what, if anything, could not be put back. */
async function rollBack(
  deps: ApplyDeps,
  backend: Backend,
  before: Tables,
  state: RedirectState,
  first: boolean,
  cause: unknown,
): Promise<MeshError> {
  let left = '';
  try {
    if (first) await cleanUnlocked(deps, state);
    else
      for (const [family, tables] of before) {
        const now = (await readAll(backend, [family])).get(family)!;
        const changed = TABLES.filter((name) => ownedText(now.get(name)!) !== ownedText(tables.get(name)!));
        const text = changed.map((name) => restoreText(name, now.get(name)!, tables.get(name)!)).join('');
        if (text !== '') await backend.restore(family, text);
      }
  } catch (error) {
    left = `; and putting back the previous rules failed: ${errorLine(error)}`;
  }
  const code = cause instanceof MeshError ? cause.code : 'REDIRECT_FAILED';
  return new MeshError(code, `rules were not changed: ${errorLine(cause)}${left}`, {
    cause,
    details: { restored: left === '' },
  });
}

async function firstState(before: Tables, addressBefore: boolean): Promise<RedirectState> {
  const absentBefore: string[] = [];
  for (const [family, tables] of before)
    for (const [name, table] of tables) if (!table.present) absentBefore.push(`${family}/${name}`);
  return {
    ...(await currentPlace()),
    absentBefore,
    addressBefore: addressBefore && isAllClean(before),
    applied: {},
    confirmed: false,
  };
}

function isAllClean(tables: Tables): boolean {
  return [...tables.values()].every((family) => [...family.values()].every(isClean));
}

function record(
  wanted: ReadonlyMap<Family, ReadonlyMap<TableName, OwnedTable>>,
  after: Tables,
): RedirectState['applied'] {
  const applied: Record<string, { wanted: string; shown: string }> = {};
  for (const [family, tables] of wanted)
    for (const [name, table] of tables)
      applied[`${family}/${name}`] = { wanted: ownedText(table), shown: ownedText(after.get(family)!.get(name)!) };
  return applied;
}

/** Arms the revert timer for rules that are new on this host, or notes that the agent has confirmed them. */
async function armed(
  deps: ApplyDeps,
  state: RedirectState,
  options: ApplyOptions,
  first: boolean,
): Promise<RedirectState> {
  if (state.revert !== undefined && state.revert.id === options.confirmedId)
    return { ...state, confirmed: true, revert: undefined };
  if (state.confirmed || !first || options.revertAfterMs === 0 || deps.startRevert === undefined) return state;
  const revert = { id: randomUUID(), deadline: deps.now() + options.revertAfterMs };
  deps.startRevert(revert.id, options.revertAfterMs);
  return { ...state, revert };
}

function redirectedDnsPorts(nat: OwnedTable | undefined): number[] {
  const rules = [...(nat?.chains.values() ?? [])].flat().filter((rule) => rule.includes('--dport 53 '));
  return rules.map((rule) => Number(/--to-ports (\d+)/.exec(rule)?.[1])).filter((port) => Number.isInteger(port));
}

/**
 * Drops conntrack's memory of DNS mappings, which outlives rules: a client with one lasting UDP socket would go on being led to the old
 * place (seen: 8 s of refusals). `ports`: where replies come from. Needs conntrack(8); without it a warning.
 */
async function forgetDns(exec: Exec, ports: readonly number[], when: 'before' | 'after'): Promise<string[]> {
  const families = ['ipv4', 'ipv6'];
  const runs = ports.flatMap((port) =>
    families.map((family) =>
      exec('conntrack', ['-D', '-f', family, '-p', 'udp', '--orig-port-dst', '53', '--reply-port-src', String(port)]),
    ),
  );
  const results = await Promise.allSettled(runs);
  const failed = results.find(
    (r) => r.status === 'rejected' || (r.value.code !== 0 && !/0 flow entries/.test(r.value.stderr)),
  );
  if (failed === undefined) return [];
  const reason = failed.status === 'rejected' ? errorLine(failed.reason) : failed.value.stderr.trim().split('\n')[0];
  return [`DNS mappings from ${when} this change stay in conntrack until they time out: ${reason}`];
}

import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { errorLine, MeshError } from '../../api/errors.ts';
import type { Exec } from '../host/exec.ts';
import type { Sockets } from '../host/sockets.ts';
import { allBackends, type Backend, type BackendName, detectBackend } from './backend.ts';
import { checkListeners, judgeInbound, type RootSocket, type UncapturedPort } from './listeners.ts';
import { readResolved, resolverOf, setResolved } from './resolved.ts';
import { dropAddress, type LoState, readLo, setLo } from './routes.ts';
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
  /** Only for a spec that captures less than the standing rules: who listens does not matter then. */
  readonly trustListeners?: boolean;
  /** Throws REDIRECT_NONE, and writes nothing, where nothing of ours stands. */
  readonly onlyIfStanding?: boolean;
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
type Wanted = ReadonlyMap<Family, ReadonlyMap<TableName, OwnedTable>>;

/**
 * Brings the kernel to `spec` (already permitted by policy.ts): checks the listeners, then routes, then per family one restore, guards
 * first. Same input, no change. When a step fails, what was there before is put back and MeshError names the cause.
 */
export async function applyRedirect(deps: ApplyDeps, spec: RedirectSpec, options: ApplyOptions): Promise<ApplyOutcome> {
  await openStateDir(deps.stateDir);
  return withLock(deps.stateDir, async () => {
    const families = await usableFamilies(spec.families, deps.procPath);
    const [backend, lo, stored, inbound] = await Promise.all([
      detectBackend(deps.exec, deps.procPath),
      readLo(deps.exec, families),
      loadState(deps.stateDir),
      judgeInbound(deps.sockets, spec),
      options.trustListeners ? undefined : checkListeners(deps.sockets, spec, families, options.agentUid),
    ]);
    const before = await readAll(backend, families);
    const first = isAllClean(before);
    if (first && options.onlyIfStanding === true) throw new MeshError('REDIRECT_NONE', 'no rule of ours stands');
    const state = stored ?? (await firstState(before, lo.address));
    if (stored === undefined) await saveState(deps.stateDir, state);
    const { captured, uncaptured, rootSockets } = inbound;
    const wanted = new Map(families.map((family) => [family, renderRules(captured, family)]));
    const undo = { deps, backend, before, lo, state, first };
    const { after, done } = await write(undo, captured, wanted);
    // last: it takes no traffic, and names of the mesh are of use only when the rules stand
    const resolved = await setResolved(deps.exec, await readResolved(deps.exec, deps.procPath), resolverOf(captured));
    done.push(...resolved.done);
    const [warnings, next] = await Promise.all([
      done.length > 0 ? forgetChangedDns(deps.exec, before, captured) : [],
      armed(deps, { ...state, applied: record(wanted, after) }, options, first),
    ]);
    if (JSON.stringify(next) !== JSON.stringify(stored)) await saveState(deps.stateDir, next);
    const changed = done.length > 0;
    return {
      changed,
      backend: backend.name,
      families,
      uncaptured,
      rootSockets,
      warnings: [...warnings, ...resolved.warnings],
      revert: next.revert,
    };
  });
}

/** What is needed to put back what stood before. */
interface Undo {
  readonly deps: ApplyDeps;
  readonly backend: Backend;
  readonly before: Tables;
  readonly lo: LoState;
  readonly state: RedirectState;
  readonly first: boolean;
}

/** Routes and address first, since rules without them lead nowhere; then the families side by side. */
async function write(undo: Undo, spec: RedirectSpec, wanted: Wanted): Promise<{ after: Tables; done: string[] }> {
  const families = [...wanted.keys()];
  try {
    const ranges = spec.vipRanges.filter((range) => families.includes(familyOf(range)));
    const done = await setLo(undo.deps.exec, undo.lo, ranges, families.includes('v6'));
    // All of them end before a failure is looked at: putting back must not race with a family that is still being written.
    const results = await Promise.allSettled(families.map((family) => writeFamily(undo, family, wanted.get(family)!)));
    const after = new Map<Family, ReadonlyMap<TableName, ReadTable>>();
    for (const [i, result] of results.entries()) {
      if (result.status === 'rejected') throw result.reason;
      after.set(families[i]!, result.value.after);
      done.push(...result.value.done);
    }
    return { after, done };
  } catch (error) {
    throw await rollBack(undo, error);
  }
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
  const [backends, lo] = await Promise.all([allBackends(deps.exec, deps.procPath), readLo(deps.exec, families)]);
  const removed = { rules: false, v6: false, dnsPorts: new Set<number>() };
  for (const backend of backends) {
    const tables = await readAll(backend, families);
    await Promise.all(families.map((family) => cleanFamily(backend, family, tables.get(family)!, state, removed)));
  }
  // Without a state, ::6 is ours if rules of ours stood beside it: nobody else has a use for this address.
  const ownAddress = lo.address && (state === undefined ? removed.v6 : !state.addressBefore);
  const resolved = await setResolved(deps.exec, await readResolved(deps.exec, deps.procPath), undefined);
  const [routes, warnings] = await Promise.all([
    setLo(deps.exec, lo, [], false),
    removed.dnsPorts.size > 0 ? forgetDns(deps.exec, [...removed.dnsPorts]) : [],
    ownAddress ? dropAddress(deps.exec) : undefined,
  ]);
  await removeState(deps.stateDir);
  return { changed: removed.rules || routes.length + resolved.done.length > 0 || ownAddress, warnings };
}

async function cleanFamily(
  backend: Backend,
  family: Family,
  tables: ReadonlyMap<TableName, ReadTable>,
  state: RedirectState | undefined,
  removed: { rules: boolean; v6: boolean; dnsPorts: Set<number> },
): Promise<void> {
  for (const port of redirectedDnsPorts(tables.get('nat'))) removed.dnsPorts.add(port);
  // nat before filter: the guards stand until nothing is redirected any more
  const names = [...TABLES].reverse();
  const text = names.map((name) => restoreText(name, tables.get(name)!, NO_RULES.get(name)!)).join('');
  if (text !== '') {
    await backend.restore(family, text);
    removed.rules = true;
    removed.v6 ||= family === 'v6';
  }
  const absent = TABLES.filter(
    (name) => state?.absentBefore.includes(`${family}/${name}`) && tables.get(name)!.present,
  );
  await backend.dropEmpty(family, absent);
}

/** Reads what is ours in the tables of each family. */
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

/** Another program that writes at the same moment (a flush between our write and our look) is no reason to give up at once. */
const WRITES = 3;

async function writeFamily(
  { backend, before, state }: Undo,
  family: Family,
  wanted: ReadonlyMap<TableName, OwnedTable>,
): Promise<{ after: ReadonlyMap<TableName, ReadTable>; done: string[] }> {
  const done = new Set<string>();
  let tables = before.get(family)!;
  for (let writes = 1; ; writes += 1) {
    const stale = TABLES.filter(
      (name) => !upToDate(tables.get(name)!, wanted.get(name)!, state.applied[`${family}/${name}`]),
    );
    if (stale.length === 0) return { after: tables, done: [...done] };
    const text = stale.map((name) => restoreText(name, tables.get(name)!, wanted.get(name)!)).join('');
    const refused = await backend.restore(family, text).then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    const after = (await readAll(backend, [family])).get(family)!;
    for (const name of stale) done.add(`${family}/${name}`);
    const wrong = stale.find((name) => !isWritten(after.get(name)!, wanted.get(name)!));
    if (refused === undefined && wrong === undefined) return { after, done: [...done] };
    // a refusal that changed nothing would come again
    if (writes === WRITES || (refused !== undefined && TABLES.every((name) => sameOwned(after, tables, name))))
      throw refused?.error ?? verifyError(family, wrong!);
    tables = after;
  }
}

/** iptables-restore said yes; still the kernel is asked: as many rules in each chain as were written, and our jumps in the lead. */
function isWritten(after: ReadTable, wanted: OwnedTable): boolean {
  return (
    after.jumpsLead &&
    after.jumps.length === wanted.jumps.length &&
    after.chains.size === wanted.chains.size &&
    [...wanted.chains].every(([chain, rules]) => after.chains.get(chain)?.length === rules.length)
  );
}

function sameOwned(
  a: ReadonlyMap<TableName, ReadTable>,
  b: ReadonlyMap<TableName, ReadTable>,
  name: TableName,
): boolean {
  return ownedText(a.get(name)!) === ownedText(b.get(name)!);
}

function verifyError(family: Family, name: TableName): MeshError {
  return new MeshError('REDIRECT_VERIFY', `${family} ${name}: the kernel does not have the rules that were written`);
}

/** Puts back what stood before; the error that started it is returned with what, if anything, could not be put back. */
async function rollBack({ deps, backend, before, lo, state, first }: Undo, cause: unknown): Promise<MeshError> {
  let left = '';
  try {
    if (first) await cleanUnlocked(deps, state);
    else {
      const families = [...before.keys()];
      const [now, loNow] = await Promise.all([readAll(backend, families), readLo(deps.exec, families)]);
      for (const family of families) await restoreFamily(backend, family, now.get(family)!, before.get(family)!);
      await setLo(deps.exec, loNow, lo.routes, false);
    }
  } catch (error) {
    left = `; and putting back the previous rules failed: ${errorLine(error)}`;
  }
  const code = cause instanceof MeshError ? cause.code : 'REDIRECT_FAILED';
  const message = `rules were not changed: ${errorLine(cause)}${left}`;
  // No `cause`: its words stand in the message, in front of what could not be put back, and errorLine would say them again.
  return new MeshError(code, message, { details: { restored: left === '' } });
}

async function restoreFamily(
  backend: Backend,
  family: Family,
  now: ReadonlyMap<TableName, ReadTable>,
  previous: ReadonlyMap<TableName, ReadTable>,
): Promise<void> {
  const changed = TABLES.filter((name) => ownedText(now.get(name)!) !== ownedText(previous.get(name)!));
  const text = changed.map((name) => restoreText(name, now.get(name)!, previous.get(name)!)).join('');
  if (text !== '') await backend.restore(family, text);
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

function record(wanted: Wanted, after: Tables): RedirectState['applied'] {
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

/** After a change: mappings to listeners that are no longer led to, and, where DNS is captured, those straight to a resolver. */
async function forgetChangedDns(exec: Exec, before: Tables, spec: RedirectSpec): Promise<string[]> {
  const old = [...before.values()].flatMap((tables) => redirectedDnsPorts(tables.get('nat')));
  const current = capturesDns(spec) ? spec.workloads.map((w) => w.dnsPort) : [];
  const gone = [...new Set(old)].filter((port) => !current.includes(port));
  const ports = capturesDns(spec) ? [53, ...gone] : gone;
  return ports.length === 0 ? [] : forgetDns(exec, ports);
}

/**
 * Drops conntrack's memory of DNS mappings, which outlives rules: a client with one lasting UDP socket would go on being led to the old
 * place (seen: 8 s of refusals). `ports`: where replies come from. Needs conntrack(8); without it a warning.
 */
async function forgetDns(exec: Exec, ports: readonly number[]): Promise<string[]> {
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
  return [`DNS mappings from before this change stay in conntrack until they time out: ${reason}`];
}

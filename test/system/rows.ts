// What the rows of the operator's table share: load, what is asked again and again, and how they are run, one after the other, each bounded.
import type { Test } from 'tap';
import { eventually, type Machine } from '../../scripts/lib/package/machine.ts';
import { type HostSetup, journal, type Mesh, rulesOf } from './mesh.ts';

export const RATE = 200;
/** At least so long, however quick what happens meanwhile. */
const LOAD_MS = 3000;
export const URL = 'http://reviews:9080/';
export const CLIENT: HostSetup = { group: 'default/client', user: 'client' };
export const REVIEWS: HostSetup = { group: 'default/reviews', user: 'reviews' };
export const MESH_NAME = 'reviews.default.svc.cluster.local';

/** A row that takes longer has failed. */
const ROW_MS = 120_000;

export interface World {
  readonly mesh: Mesh;
  readonly share: string;
  /** Rules of a host before anything was installed. */
  readonly before: Map<string, string>;
  /** The row that never ended. */
  overdue?: string;
}

export type Row = (t: Test, world: World) => Promise<void>;

/** PID of a unit’s main process, "0" when it has none. */
export const mainPid = async (machine: Machine, unit: string) =>
  (await machine.must(`systemctl show -p MainPID --value ${unit}`)).trim();
/** What Envoy's access log says of requests that were not answered well. */
const refusals = async (machine: Machine) =>
  (
    await machine.exec(
      "journalctl --no-pager -o cat -u mesh-proxy | grep '^{' | grep -v '\"response_code\":200' | tail -4",
    )
  ).out;
/** The Envoy in charge: the youngest. */
export const envoyPid = async (machine: Machine) => (await machine.must('pgrep -n -x -u mesh-proxy envoy')).trim();
/** Whether systemd calls a unit active. */
export const isActive = async (machine: Machine, unit: string) =>
  (await machine.exec(`systemctl is-active ${unit}`)).out.trim() === 'active';

/** `act` under steady load of requests and of DNS questions; nothing may be lost. */
export async function underLoad(t: Test, mesh: Mesh, act: () => Promise<unknown>): Promise<void> {
  const [requests, questions] = await Promise.all([mesh.load(URL, RATE), mesh.load(`dns:${MESH_NAME}`, 20)]);
  const until = performance.now() + LOAD_MS;
  try {
    await act();
    await eventually('there was load for a while', 2 * LOAD_MS, async () => performance.now() > until);
  } finally {
    const [http, dns] = await Promise.all([requests(), questions()]);
    t.comment(
      `${http.sent} requests, slowest ${http.slowestMs} ms; ${dns.sent} questions, slowest ${dns.slowestMs} ms`,
    );
    t.ok(http.sent > RATE, 'there was load');
    if (http.failures > 0)
      for (const machine of [mesh.a, mesh.b, mesh.d]) t.comment(`${machine.name}: ${await refusals(machine)}`);
    t.strictSame(http.failed.slice(0, 5), [], `no request of ${http.sent} lost`);
    t.strictSame(dns.failed.slice(0, 5), [], `no question of ${dns.sent} lost`);
  }
}

/** Until an agent with another PID than `but` is ready. */
export const ready = (machine: Machine, but: string) =>
  eventually(`${machine.name}: another agent is ready`, 30_000, async () => {
    const [pid, active] = await Promise.all([mainPid(machine, 'mesh-agent'), isActive(machine, 'mesh-agent')]);
    return active && pid !== '0' && pid !== but;
  });

/** Nothing of the mesh acts on this machine any more, and its network is what it was. */
export async function asBefore(t: Test, machine: Machine, before: string): Promise<void> {
  await eventually(`${machine.name}: the units have stopped`, 20_000, async () => {
    const { out } = await machine.exec(
      "systemctl list-units --no-legend --plain 'mesh*' | grep -E ' (active|activating|deactivating) '",
    );
    return out === '';
  });
  t.equal(await rulesOf(machine), before, `${machine.name}: rules as before installation`);
  t.equal((await machine.must('ip route show proto 77; ip -6 route show proto 77')).trim(), '', 'no route of ours');
  t.notMatch(await machine.must('ss -Hltnu'), /:15\d\d\d /, 'no port of the mesh is open');
  const user = machine.name === 'a' ? 'client' : 'reviews';
  t.equal((await machine.exec('getent ahostsv4 outside.example', { user })).code, 0, 'other names resolve');
  t.not((await machine.exec(`getent ahostsv4 ${MESH_NAME}`, { user })).code, 0, 'mesh names do not');
}

export type Rows = readonly (readonly [string, Row])[];

/** Fails with the word that a machine is dead, or that a row before still runs, rather than with what follows from it. */
async function fit({ mesh, overdue }: World): Promise<void> {
  if (overdue !== undefined) throw new Error(`not begun: this row has not ended: ${overdue}`);
  for (const machine of [mesh.controller, mesh.a, mesh.b, mesh.d]) await machine.must('true', { timeoutMs: 10_000 });
}

/** A row that takes too long is left to itself, and no other begins. */
async function bounded(world: World, does: string, running: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => {
      world.overdue = does;
      fail(new Error(`not done in ${ROW_MS} ms`));
    }, ROW_MS);
  });
  await Promise.race([running, late]).finally(() => clearTimeout(timer));
}

/** Runs rows in order, each as a subtest; one that fails says what the mesh's units logged. */
export async function runRows(t: Test, world: World, rows: Rows): Promise<void> {
  for (const [does, row] of rows)
    await t.test(does, { timeout: ROW_MS + 60_000 }, async (t) => {
      const began = performance.now();
      try {
        await fit(world);
        await bounded(world, does, row(t, world));
        t.comment(`took ${Math.round((performance.now() - began) / 1000)} s`);
      } catch (error) {
        throw new Error(`${(error as Error).message}\n${await journals(world)}`, { cause: error });
      }
      if (!t.passing()) t.comment(await journals(world));
    });
}

async function journals({ mesh }: World): Promise<string> {
  const machines = [mesh.a, mesh.b, mesh.d];
  const said = await Promise.all(machines.map((m) => journal(m).catch((dead: Error) => dead.message)));
  return machines.map((machine, i) => `--- ${machine.name}\n${said[i]}`).join('\n');
}

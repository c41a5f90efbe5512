/** What is measured of a fleet, the same for our rooms and for the peer. Each leaves the fleet whole, the last ones (`kill`) do not. */
import { type ChildProcess, spawn } from 'node:child_process';
import { percentile, round } from '../stats.ts';
import type { Fleet } from './fleet.ts';
import type { Network } from './network.ts';
import { now, type Report } from './protocol.ts';

/** What a start leaves to do (links that are trimmed, first rounds) is no idling. */
const CALM_AFTER_MS = 20_000;
const IDLE_MS = 30_000;
const CHANGES = 20;
/** So many deliveries take a machine of two cores its time: looked at this often, and no longer. */
const LOOK_EVERY_MS = 2000;
const ALL_AT_ONCE_WITHIN_MS = 60_000;
const BUSY_PROCESSES = 30;
const BUSY_MS = 20_000;
const STALL_MS = 2000;
/** Longer than either kind needs to take a host for dead. */
const AFTERMATH_MS = 15_000;
const CUT_MS = 60_000;
const HEAL_WITHIN_MS = 60_000;
const DETECT_WITHIN_MS = 60_000;
const RESTART_EVERY_MS = 100;

const pause = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));
const seconds = (ms: number) => round(ms / 1000);

let value = 1;

/** CPU of a core and bytes a second that a member costs when nothing happens; `alone`: of the one that has a process to itself. */
export async function idle(fleet: Fleet, network: Network): Promise<object> {
  const { lone } = fleet.groups;
  await pause(CALM_AFTER_MS);
  const before = { cpu: fleet.cpuSeconds(), bytes: network.bytes(), alone: lone.cpuSeconds(), at: performance.now() };
  await pause(IDLE_MS);
  const took = (performance.now() - before.at) / 1000;
  const { rssMb } = await fleet.report();
  return {
    cpuPercentPerMember: round(((fleet.cpuSeconds() - before.cpu) / took / fleet.size) * 100),
    cpuPercentAlone: round(((lone.cpuSeconds() - before.alone) / took) * 100),
    bytesPerSecondPerMember: round((network.bytes() - before.bytes) / took / fleet.size),
    largestProcessMb: round(rssMb),
  };
}

/** One member a second says something new: when the others know. */
export async function changes(fleet: Fleet): Promise<object> {
  await fleet.reset();
  const names = [
    ...fleet.groups.left.members.slice(0, CHANGES / 2),
    ...fleet.groups.right.members.slice(0, CHANGES / 2),
  ];
  for (const name of names) {
    await publish(fleet, [name], ++value);
    await pause(1000);
  }
  await pause(2000);
  return { ...(await delivery(fleet)), changes: names.length };
}

/** All members say something new at the same time. */
export async function allAtOnce(fleet: Fleet): Promise<object> {
  await fleet.reset();
  const cpu = fleet.cpuSeconds();
  const begun = performance.now();
  value++;
  await Promise.all(
    Object.values(fleet.groups).map((group) => group.send({ op: 'publish', names: group.members, value })),
  );
  for (;;) {
    await pause(LOOK_EVERY_MS);
    const cpuMsPerDelivery = round(((fleet.cpuSeconds() - cpu) * 1000) / (fleet.size * (fleet.size - 1)));
    const lookedForSeconds = seconds(performance.now() - begun);
    const seen = await delivery(fleet);
    if (seen.deliveredPercent >= 100 || performance.now() - begun > ALL_AT_ONCE_WITHIN_MS)
      return { ...seen, lookedForSeconds, cpuMsPerDelivery };
  }
}

function publish(fleet: Fleet, names: readonly string[], number: number): Promise<unknown> {
  return Promise.all(
    Object.values(fleet.groups).map((group) => {
      const own = names.filter((name) => group.members.includes(name));
      return own.length === 0 ? undefined : group.send({ op: 'publish', names: own, value: number });
    }),
  );
}

/** Of what was published since the last reset: the share that arrived, how long one delivery and the last delivery of a change took. */
async function delivery(fleet: Fleet): Promise<{ deliveredPercent: number } & Record<string, number>> {
  const { published, arrivals } = await fleet.report();
  const key = (name: string, number: number) => `${name} ${number}`;
  const at = new Map(published.map(([name, number, time]) => [key(name, number), time]));
  const took: number[] = [];
  const last = new Map<string, number>();
  for (const [, name, number, time] of arrivals) {
    const begun = at.get(key(name, number));
    if (begun === undefined) continue;
    took.push(time - begun);
    last.set(key(name, number), Math.max(last.get(key(name, number)) ?? 0, time - begun));
  }
  return {
    deliveredPercent: round((took.length / (published.length * (fleet.size - 1))) * 100),
    deliveryP50Ms: percentile(took, 0.5),
    deliveryP99Ms: percentile(took, 0.99),
    knownToAllP50Ms: percentile([...last.values()], 0.5),
    knownToAllP99Ms: percentile([...last.values()], 0.99),
  };
}

/** Members taken for dead though all live, while the machine has far too much to do. */
export async function busy(fleet: Fleet): Promise<object> {
  await fleet.reset();
  const burners: ChildProcess[] = [];
  try {
    for (let i = 0; i < BUSY_PROCESSES; i++)
      burners.push(spawn('sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' }));
    await pause(BUSY_MS);
  } finally {
    for (const burner of burners) burner.kill('SIGKILL');
  }
  await pause(AFTERMATH_MS);
  return { falseDeaths: falseDeaths(await fleet.report()), busyProcesses: BUSY_PROCESSES, seconds: BUSY_MS / 1000 };
}

/** Half of the members stand still for two seconds and go on. */
export async function stall(fleet: Fleet): Promise<object> {
  await fleet.reset();
  fleet.groups.right.signal('SIGSTOP');
  await pause(STALL_MS);
  fleet.groups.right.signal('SIGCONT');
  await pause(AFTERMATH_MS);
  return { falseDeaths: falseDeaths(await fleet.report()), stalledMembers: fleet.groups.right.members.length };
}

/** Pairs of an observer and a living member that it took for dead. */
function falseDeaths({ deaths }: Report, except: ReadonlySet<string> = new Set()): number {
  return new Set(deaths.filter(([, name]) => !except.has(name)).map(([observer, name]) => `${observer} ${name}`)).size;
}

/** Two halves that hear nothing of each other for a minute. A member of each says something new meanwhile. */
export async function partition(fleet: Fleet, network: Network): Promise<object> {
  await fleet.reset();
  network.cut();
  await pause(CUT_MS / 2);
  const names = [fleet.groups.left.members[0] as string, fleet.groups.right.members[0] as string];
  await publish(fleet, names, ++value);
  await pause(CUT_MS / 2);
  network.join();
  const wholeAfter = await fleet.whole(fleet.size - 1, HEAL_WITHIN_MS);
  await pause(2000);
  const { arrivals } = await fleet.report();
  const learnt = arrivals.filter(([, name, number]) => names.includes(name) && number === value).length;
  return {
    wholeAfterSeconds: seconds(wholeAfter),
    changesKnownPercent: round((learnt / (names.length * (fleet.size - 1))) * 100),
  };
}

/** Members start anew one after the other; then all of two groups at once. */
export async function restarts(fleet: Fleet): Promise<object> {
  const { left, right } = fleet.groups;
  for (const name of left.members) {
    await left.send({ op: 'stop', names: [name] });
    await left.send({ op: 'again', names: [name] });
    await pause(RESTART_EVERY_MS);
  }
  const rolling = await fleet.whole(fleet.size - 1, HEAL_WITHIN_MS);
  const both = [left, right];
  await Promise.all(both.map((group) => group.send({ op: 'stop', names: group.members })));
  await Promise.all(both.map((group) => group.send({ op: 'again', names: group.members })));
  const mass = await fleet.whole(fleet.size - 1, HEAL_WITHIN_MS);
  return {
    rollingWholeAfterSeconds: seconds(rolling),
    massWholeAfterSeconds: seconds(mass),
    massMembers: left.members.length + right.members.length,
  };
}

/** One killed, then one frozen, then a tenth killed at once: when all others know, and whom they took for dead by mistake. */
export async function kill(fleet: Fleet): Promise<object> {
  const lost = new Set<string>();
  const detect = async (group: 'lone' | 'frozen' | 'victims', signal: NodeJS.Signals) => {
    const { members } = fleet.groups[group];
    await fleet.reset();
    const begun = now();
    fleet.groups[group].signal(signal);
    for (const name of members) lost.add(name);
    const report = await known(fleet, members, members.length * (fleet.size - lost.size));
    const times = report.deaths.filter(([, name]) => members.includes(name)).map(([, , at]) => at - begun);
    return {
      seconds: seconds(Math.max(...times)),
      p50Seconds: seconds(percentile(times, 0.5)),
      falseDeaths: falseDeaths(report, lost),
    };
  };
  return {
    killed: await detect('lone', 'SIGKILL'),
    frozen: await detect('frozen', 'SIGSTOP'),
    tenthKilled: { ...(await detect('victims', 'SIGKILL')), members: fleet.groups.victims.members.length },
  };
}

/** The report once so many pairs of an observer and one of these members are said to be deaths. */
async function known(fleet: Fleet, members: readonly string[], pairs: number): Promise<Report> {
  const end = performance.now() + DETECT_WITHIN_MS;
  for (;;) {
    const report = await fleet.report();
    const found = new Set(
      report.deaths.filter(([, name]) => members.includes(name)).map((death) => `${death[0]} ${death[1]}`),
    );
    if (found.size >= pairs) return report;
    if (performance.now() > end) throw new Error(`${found.size} of ${pairs} known after ${DETECT_WITHIN_MS} ms`);
    await pause(100);
  }
}

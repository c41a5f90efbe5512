/** Parts 8 to 10: guards, a dead host, dead controllers, crashes. */
import { healthyEndpoints } from '../envoy-endpoints.ts';
import type { LoadReport } from '../load.ts';
import { restartAgents, untilReady } from './agents.ts';
import { requireTlsOnly, startCapture } from './capture.ts';
import { firstFailures, loadOn, outageMs } from './load-on.ts';
import { check, must } from './run.ts';
import type { Step } from './story.ts';
import { tamperedConfig } from './story-tampered.ts';
import { fullName, nodeOf, peerAuthentication, WORKLOAD_PORTS } from './topology.ts';
import { HOSTS, type World } from './world.ts';

/** How many healthy endpoints of reviews the Envoy of each host has. */
async function endpointCounts(world: World, hosts: readonly string[]): Promise<number[]> {
  const dumps = await Promise.all(hosts.map((host) => world.envoy(host, '/clusters?format=json').catch(() => '{}')));
  return dumps.map((dump) => healthyEndpoints(dump, fullName('reviews'), 9080).length);
}

async function untilEndpoints(world: World, hosts: readonly string[], count: number, what: string, timeoutMs: number) {
  let seen: number[] = [];
  await world.until(
    async () => {
      seen = await endpointCounts(world, hosts);
      return seen.every((n) => n === count);
    },
    () => `${what}: ${hosts.map((host, i) => `${host} has ${seen[i]}`).join(', ')}`,
    timeoutMs,
    20,
  );
}

async function guards(world: World, note: (line: string) => void): Promise<void> {
  const disguise = ['-H', 'host: reviews:9080'];
  const { ip4, ip6 } = nodeOf('a');
  const ports = (await outboundPorts(world)).map(String);
  check(ports.length >= 2, `a has ${ports.length} outbound listeners, expected one for each workload`);
  const tries: [who: string, host: string, user: string | undefined, url: string][] = [
    ...ports.flatMap((port): typeof tries => [
      [`another workload, port ${port}`, 'a', 'hm-batch', `http://127.0.0.1:${port}/`],
      [`another user, port ${port}`, 'a', 'nobody', `http://127.0.0.1:${port}/`],
      [`another user over IPv6, port ${port}`, 'a', 'nobody', `http://[::1]:${port}/`],
      [`another host, port ${port}`, 'plain', undefined, `http://${ip4}:${port}/`],
      [`another host over IPv6, port ${port}`, 'plain', undefined, `http://[${ip6}]:${port}/`],
    ]),
    ['another host, the inbound port', 'plain', undefined, `http://${ip4}:15006/`],
  ];
  const answers = await Promise.all(tries.map(([, host, user, url]) => world.curl(host, user, url, disguise)));
  for (const [i, { status }] of answers.entries()) check(status === 0, `${tries[i]?.[0]} was served: ${status}`);
  await world.apply(peerAuthentication('STRICT'));
  await world.settled();
  for (const url of ['http://127.0.0.1:7071/', 'http://[::1]:7071/', `http://${ip4}:7071/`]) {
    let status = -1;
    await world.until(
      async () => {
        status = (await world.curl('a', 'nobody', url)).status;
        return status === 0;
      },
      () => `${url} by a stranger on the host is refused under STRICT; it answered ${status}`,
      30_000,
    );
  }
  check(
    (await world.curl('a', 'hm-client', 'http://batch:7071/')).status === 200,
    'client reaches batch through the mesh',
  );
  note(
    `outbound ports ${ports.join(' and ')} of a: another workload, another user, another host, both families: reset`,
  );
  note('a workload over loopback or its own address by a stranger on the host: reset; through the mesh: served');
}

/** Ports of the outbound listeners of a, one for each workload. */
async function outboundPorts(world: World): Promise<number[]> {
  const { listener_statuses = [] } = JSON.parse(await world.envoy('a', '/listeners?format=json')) as {
    listener_statuses?: { name?: string }[];
  };
  return listener_statuses.flatMap(({ name = '' }) => /^outbound_(\d+)$/.exec(name)?.[1] ?? []).map(Number);
}

async function deadHost(world: World, note: (line: string) => void): Promise<void> {
  await untilEndpoints(world, HOSTS, 2, 'two endpoints of reviews everywhere', 30_000);
  must(await world.lab('kill', 'controller'), 'kill controller');
  const begun = performance.now();
  must(await world.lab('link', 'c', 'down'), 'link c down');
  await untilEndpoints(world, ['a', 'b'], 1, 'the endpoint on c left the Envoys of a and b', 10_000);
  const gone = (performance.now() - begun) / 1000;
  must(await world.lab('link', 'c', 'up'), 'link c up');
  const back = performance.now();
  await untilEndpoints(world, HOSTS, 2, 'the endpoint on c is back everywhere', 60_000);
  note(`found by gossip, the controller being dead: gone from a and b after ${gone.toFixed(1)} s`);
  note(`back everywhere ${((performance.now() - back) / 1000).toFixed(1)} s after the link`);
}

async function noController(world: World, note: (line: string) => void): Promise<void> {
  const served = async () => (await world.curl('a', 'hm-client', 'http://reviews:9080/')).reply?.service;
  const { generation } = await world.agentStatus('a');
  check((await served()) !== undefined, 'a request without a controller');
  must(await world.lab('kill', 'b', 'all'), 'kill b all');
  must(await world.lab('start', 'b', 'all'), 'start b all');
  const begun = performance.now();
  await untilReady(world, ['b']);
  await world.until(async () => (await served()) === 'reviews-v1', 'the rebooted b serves', 60_000);
  note(`b, rebooted with no controller alive, serves after ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  await tamperedConfig(world, note);
  must(await world.lab('start', 'controller'), 'start controller');
  await world.until(() => world.meshStatus().catch(() => undefined), 'the controller is back', 60_000);
  for (const mode of ['STRICT', 'PERMISSIVE'] as const) await world.apply(peerAuthentication(mode));
  await world.settled();
  const after = await Promise.all(HOSTS.map((host) => world.agentStatus(host)));
  check(
    after.every((one) => one.generation > generation && !one.problems.some((line) => /refused/.test(line))),
    `the true controller is back, but: ${after.map((one) => `${one.host} ${one.generation} ${one.problems}`).join('; ')}`,
  );
  note('the true controller is back: its next generation reaches all three, and ends the complaints');
}

async function agentCrash(world: World, note: (line: string) => void): Promise<void> {
  const [requests, names] = await Promise.all([
    loadOn(world, 'http://reviews:9080/', 200),
    loadOn(world, 'dns:outside.test', 20),
  ]);
  for (const host of ['a', 'b']) await restartAgents(world, [host]);
  await new Promise((resolve) => setTimeout(resolve, 500)); // what the new agents do at once falls under load too
  const [sent, asked] = await Promise.all([requests.stop(), names.stop()]);
  check(sent.failures === 0, firstFailures(sent));
  check(asked.failures === 0, `DNS: ${firstFailures(asked)}`);
  note(
    `kill -9 of the agents of a and b: 0 of ${sent.sent} requests lost, 0 of ${asked.sent} DNS queries (slowest ${asked.slowestMs} ms)`,
  );
}

/** A second is a matter of some CPU time, which a busy machine may not give at once: of so many kills one must do, in a second of work. */
const PROXY_KILLS = 3;

async function proxyCrash(world: World, note: (line: string) => void): Promise<void> {
  const mark = `plain-text-mark-${process.pid}`;
  const captures = await Promise.all(HOSTS.map((host) => startCapture(world, host, 'crash')));
  const outages: number[] = [];
  let report: LoadReport;
  let most: number;
  do {
    most = 1000 * slowness();
    report = await killProxyUnderLoad(world, mark);
    outages.push(outageMs(report));
  } while ((outages.at(-1) as number) >= most && outages.length < PROXY_KILLS);
  const pcaps = await Promise.all(captures.map((capture) => capture.stop()));
  const verdicts = pcaps.map((pcap) => requireTlsOnly(pcap, WORKLOAD_PORTS, [mark]));
  check(
    (outages.at(-1) as number) < most,
    `Envoy of a was away for ${outages.join(', ')} ms, at last ${most.toFixed(0)} were allowed: ${firstFailures(report)}`,
  );
  const late = (outages.at(-1) as number) < 1000 ? '' : ` (${most.toFixed(0)} ms allowed: this machine's CPU is busy)`;
  note(`Envoy of a killed: requests refused for ${outages.join(', then ')} ms${late}, then served again`);
  note(`captured meanwhile: ${verdicts.reduce((sum, v) => sum + v.bytes, 0)} bytes on three links, TLS only`);
}

/** How many times as long as it works a process takes here now: 1 where nothing else wants the CPU. */
function slowness(): number {
  const [begun, before] = [performance.now(), process.cpuUsage()];
  const worked = () => {
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  };
  while (worked() < 200);
  return Math.max(1, (performance.now() - begun) / worked());
}

/** Requests before, while and after a's Envoy is killed. */
async function killProxyUnderLoad(world: World, mark: string): Promise<LoadReport> {
  const during = await loadOn(world, `http://reviews:9080/${mark}`, 100);
  await new Promise((resolve) => setTimeout(resolve, 200)); // some requests before
  must(await world.lab('kill', 'a', 'proxy'), 'kill a proxy');
  await world.until(
    async () => (await world.curl('a', 'hm-client', `http://reviews:9080/${mark}`)).status === 200,
    'Envoy of a is back',
    30_000,
    20,
  );
  await new Promise((resolve) => setTimeout(resolve, 300)); // and some after
  const report = await during.stop();
  check(report.failures < report.sent, 'no request was served at all');
  return report;
}

export const failureSteps: readonly Step[] = [
  {
    part: 8,
    name: 'guards',
    title: "another workload's outbound port, and loopback past the policy, are refused",
    run: guards,
  },
  {
    part: 8,
    name: 'dead-host',
    title: 'the link of c goes down with the controller dead: out of every Envoy within 10 s; back when it is back',
    run: deadHost,
  },
  {
    part: 9,
    name: 'no-controller',
    title: 'no controller: traffic goes on, a rebooted host serves; forged and rolled-back config is refused and named',
    run: noController,
  },
  {
    part: 10,
    name: 'agent-crash',
    title: 'mesh-agent killed with -9 under 200 requests a second: none lost, DNS never interrupted',
    run: agentCrash,
  },
  {
    part: 10,
    name: 'proxy-crash',
    title: 'Envoy killed: back within 1 s, not a byte in plaintext meanwhile',
    run: proxyCrash,
  },
];

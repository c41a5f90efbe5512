// A WorkloadGroup's health probe in a real mesh under STRICT: who is asked, who hears of it, what an agent that starts anew makes of it.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import tap from 'tap';
import { stringify } from 'yaml';
import { ADMIN_API } from '../../api/http/admin-api.ts';
import { must } from '../../scripts/lib/demo/run.ts';
import { createWorld, HOST_NODE, onHost } from '../../scripts/lib/demo/world.ts';
import { pathsOf } from '../../scripts/lib/lab/paths.ts';

const TOPOLOGY = `controllers: 1
hosts:
  - name: a
    workloads:
      - {name: client, serviceAccount: client, labels: {app: client}, user: hm-client}
  - name: b
    workloads:
      - {name: web, serviceAccount: web, labels: {app: web}, user: hm-web, ports: {http: 8080}}
`;
/** While it is there the workload says that it is ill. */
const SICK = '/run/hostmesh-lab/sick';
/** Health of the workload, and who asked, at a port that peers know nothing of. */
const HEALTH = `require('node:http').createServer((q, s) => s.writeHead(require('node:fs').existsSync('${SICK}') ? 503 : 200).end())
  .listen(8081, () => console.log('serves health'))`;
const VIP = 'http://web.default.svc.cluster.local/';

const web = (probe?: object) => ({
  apiVersion: 'networking.istio.io/v1',
  kind: 'WorkloadGroup',
  metadata: { name: 'web', namespace: 'default' },
  spec: {
    metadata: { labels: { app: 'web' } },
    template: { serviceAccount: 'web', ports: { http: 8080 } },
    ...(probe === undefined ? {} : { probe }),
  },
});
const MESH = [
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'default' },
    spec: { selector: { app: 'web' }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
  },
  {
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { name: 'mesh', namespace: 'istio-system' },
    spec: { mtls: { mode: 'STRICT' } },
  },
];

tap.setTimeout(240_000);
tap.test('probes', async (t) => {
  const world = createWorld(new AbortController().signal);
  t.teardown(async () => {
    rmSync(SICK, { force: true });
    await world.close();
    await createWorld(new AbortController().signal).lab('down');
  });
  const topology = join(world.temp, 'topology.yaml');
  writeFileSync(topology, TOPOLOGY);
  must(await world.lab('up', '--file', topology), 'scripts/lab up');
  await world.start(
    'b',
    'hm-web',
    [HOST_NODE, onHost('scripts/lib/sample-service.ts'), 'web', 'http=8080'],
    / serves /,
  );
  await world.start('b', 'hm-web', [HOST_NODE, '-e', HEALTH], /serves health/);
  const apply = (...objects: object[]) => world.apply(objects.map((one) => stringify(one)).join('---\n'));
  const problems = async () => (await world.agentStatus('b')).problems.join('\n');
  const atPeer = async () => {
    const { hosts } = (await world.agent('a', ADMIN_API.endpoints)) as {
      hosts: Record<string, { record: { counter: number; workloads: { health: string }[] } }>;
    };
    const record = hosts.b?.record;
    return { health: record?.workloads[0]?.health, counter: record?.counter ?? 0 };
  };
  const peerSees = (what: string, ms: number) =>
    world.until(async () => (await atPeer()).health === what, `${what} at the peer`, ms);
  const get = async () => (await world.curl('a', 'hm-client', VIP)).status;
  /** How often the agent of a host has written such a line. On a busy machine an agent may be taken for dead, which is no word on health. */
  const said = (host: string, line: RegExp) =>
    readFileSync(join(pathsOf(host).logDir, 'agent.log'), 'utf8')
      .split('\n')
      .filter((text) => line.test(text)).length;
  const refuted = () => said('b', /accused of being dead; refuting/);
  const deaths = () => said('a', /"host":"b".*"message":"host dead"/);
  await apply(...MESH);
  await peerSees('healthy', 30_000);
  await world.until(async () => (await get()) === 200, 'the service to be reached', 30_000);

  await apply(web({ httpGet: { port: 8081, path: '/healthz' }, periodSeconds: 1, failureThreshold: 2 }));
  const refutedBefore = refuted();
  const { counter } = await atPeer();
  const looked = async () =>
    Number(
      /mesh_agent_probes_total\{group="default\/web",result="success"\} (\d+)/.exec(
        (await world.on('b', undefined, ['curl', '-s', 'http://127.0.0.1:15020/metrics'])).stdout,
      )?.[1] ?? 0,
    );
  await world.until(async () => (await looked()) >= 3, 'three looks through the guards of STRICT', 30_000);
  t.equal((await atPeer()).health, 'healthy', 'a probe that is added takes nothing out');
  const told = (await atPeer()).counter;
  t.ok(told === counter || refuted() > refutedBefore, `looks that change nothing say nothing: ${counter}, ${told}`);

  writeFileSync(SICK, '');
  await peerSees('unhealthy', 20_000);
  t.match(await problems(), /default\/web: probe failing: GET http:\/\/10\.77\.0\.12:8081\/healthz: HTTP status 503/);
  t.equal((await world.agentStatus('b')).workloads[0]?.health, 'unhealthy');
  await world.until(async () => (await get()) === 503, 'no request to go there', 15_000);

  must(await world.lab('kill', 'b', 'agent'), 'scripts/lab kill');
  await world.until(
    async () => (await world.agentStatus('b').catch(() => undefined))?.ready,
    'the agent to be ready',
    40_000,
  );
  t.equal((await atPeer()).health, 'unhealthy', 'a new agent knows no better');
  rmSync(SICK);
  await peerSees('healthy', 20_000);
  await world.until(async () => (await get()) === 200, 'requests again', 15_000);

  const pushed = async () =>
    Number(
      /mesh_agent_xds_resources_sent_total\{type="endpoint"\} (\d+)/.exec(
        (await world.on('a', undefined, ['curl', '-s', 'http://127.0.0.1:15020/metrics'])).stdout,
      )?.[1],
    );
  const [before, deathsBefore] = [await pushed(), deaths()];
  must(await world.lab('kill', 'b', 'agent'), 'scripts/lab kill');
  await world.until(
    async () => (await world.agentStatus('b').catch(() => undefined))?.ready,
    'the agent to be ready',
    40_000,
  );
  await world.until(async () => (await looked()) >= 1, 'its first look', 30_000);
  t.equal((await atPeer()).health, 'healthy', 'a new agent goes on from what was known');
  // An agent that takes three seconds to start is dead for its peers meanwhile: out and in once, which is gossip's verdict.
  const flaps = async () => (await pushed()) - before - 2 * (deaths() - deathsBefore);
  await world.until(async () => (await flaps()) >= 0, 'b to be alive again', 30_000);
  t.equal(await flaps(), 0, 'without a flap in between');
});

// A gateway of a real mesh: the operator's Secret reaches the one host that needs it, is served, rotated, kept, and goes; nobody else sees it.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import tap from 'tap';
import { stringify } from 'yaml';
import { ADMIN_API } from '../../api/http/admin-api.ts';
import { must } from '../../scripts/lib/demo/run.ts';
import { createWorld, HOST_NODE, onHost } from '../../scripts/lib/demo/world.ts';
import { pathsOf } from '../../scripts/lib/lab/paths.ts';
import { createWorldCa } from '../builders/server-certificate.ts';

const TOPOLOGY = `controllers: 1
hosts:
  - name: edge
    gateway: true
    workloads:
      - {name: edge, namespace: istio-system, serviceAccount: edge, labels: {istio: ingressgateway}}
  - name: web
    workloads:
      - {name: web, serviceAccount: web, labels: {app: web}, user: hm-web, ports: {http: 8080}}
  - {name: plain, agent: false}
`;
const EDGE = '10.77.0.11';
const NAME = 'web.example';
const SECRET = '/api/v1/namespaces/istio-system/secrets/web-cert';

const [first, second] = [createWorldCa('first'), createWorldCa('second')];
const pairs = [first, second].map((ca) => ca.issue({ dnsNames: [NAME] }));
/** A line of each private key: what nobody may see. */
const needles = pairs.flatMap(({ keyPem }) => {
  const line = keyPem.split('\n')[1] as string;
  return [line, Buffer.from(keyPem).toString('base64').slice(40, 100)];
});
const leaks = (text: string) => needles.filter((needle) => text.includes(needle));

const secret = (index: number) => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name: 'web-cert', namespace: 'istio-system' },
  type: 'kubernetes.io/tls',
  stringData: { 'tls.crt': pairs[index]?.certPem, 'tls.key': pairs[index]?.keyPem },
});
const gateway = (name: string, servers: object[]) => ({
  apiVersion: 'networking.istio.io/v1',
  kind: 'Gateway',
  metadata: { name, namespace: 'default' },
  spec: { selector: { istio: 'ingressgateway' }, servers },
});
const server = (number: number, protocol: string, more: object = {}) => ({
  port: { number, name: `${protocol.toLowerCase()}-${number}`, protocol },
  hosts: [NAME],
  ...more,
});
const HTTPS = [server(443, 'HTTPS', { tls: { mode: 'SIMPLE', credentialName: 'web-cert' } })];
const MESH = [
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web' },
    spec: { selector: { app: 'web' }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
  },
  gateway('public', [server(80, 'HTTP'), ...HTTPS]),
  {
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name: 'web' },
    spec: { hosts: [NAME], gateways: ['public'], http: [{ route: [{ destination: { host: 'web' } }] }] },
  },
];
const yaml = (...objects: object[]) => objects.map((one) => stringify(one)).join('---\n');

tap.setTimeout(600_000);
tap.test('gateway', async (t) => {
  const world = createWorld(new AbortController().signal);
  t.teardown(async () => {
    await world.close();
    await createWorld(new AbortController().signal).lab('down');
  });
  const topology = join(world.temp, 'topology.yaml');
  writeFileSync(topology, TOPOLOGY);
  must(await world.lab('up', '--file', topology), 'scripts/lab up');
  const sample = [HOST_NODE, onHost('scripts/lib/sample-service.ts'), 'web', 'http=8080'];
  await world.start('web', 'hm-web', sample, / serves /);
  const cas = [first, second].map((ca, index) => {
    const file = `/run/hostmesh-lab/ca-${index}.pem`;
    writeFileSync(file, ca.caPem, { mode: 0o644 });
    return file;
  });
  const https = (ca: number) =>
    world.curl('plain', undefined, `https://${NAME}/`, [
      '--resolve',
      `${NAME}:443:${EDGE}`,
      '--cacert',
      cas[ca] as string,
    ]);
  const served = async (ca: number) => (await https(ca)).status === 200;
  const problems = async () => (await world.agentStatus('edge')).problems.join('\n');
  const kept = join(pathsOf('edge').stateDir, 'identity/secrets');

  await t.test('without its Secret a listener says so, and serves the rest', async (t) => {
    await world.apply(yaml(...MESH));
    const http = () => world.curl('plain', undefined, `http://${NAME}/`, ['--resolve', `${NAME}:80:${EDGE}`]);
    await world.until(async () => (await http()).status === 200, 'HTTP through the gateway', 30_000);
    t.match((await http()).reply?.headers['x-forwarded-client-cert'], /ns\/istio-system\/sa\/edge/);
    await world.until(async () => /no Secret istio-system\/web-cert/.test(await problems()), 'the problem', 30_000);
    t.equal((await https(0)).status, 0);
  });

  await t.test('a Secret is served as soon as it is there, to nobody else, and shown to nobody', async (t) => {
    await world.apply(yaml(secret(0)));
    await world.until(() => served(0), 'HTTPS through the gateway', 30_000);
    t.notMatch(await problems(), /Secret/);
    t.same(readdirSync(kept), ['istio-system_web-cert.json']);
    t.equal(statSync(join(kept, 'istio-system_web-cert.json')).mode & 0o777, 0o600);
    t.same(readdirSync(join(pathsOf('web').stateDir, 'identity/secrets')), []);
    const seen = [
      (await world.rest('GET', SECRET)).body,
      (await world.rest('GET', '/api/v1/secrets')).body,
      (await world.meshctl(['get', 'secrets', '-n', 'istio-system', '-o', 'yaml'])).stdout,
      ...(await Promise.all(
        ['edge', 'web'].flatMap((host) =>
          [ADMIN_API.status, ADMIN_API.config, ADMIN_API.desired, ADMIN_API.endpoints].map((path) =>
            world.agent(host, path).then(JSON.stringify),
          ),
        ),
      )),
      await world.envoy('edge', '/config_dump?resource=dynamic_active_secrets'),
    ];
    t.match(seen[2], /tls\.key/);
    t.same(leaks(seen.join('\n')), []);
    const state = execFileSync('sh', ['-c', 'cat /run/hostmesh-lab/nodes/*/log/*.log'], {
      maxBuffer: 1 << 28,
    }).toString();
    t.same(leaks(state), [], 'no log has it');
    const controller = execFileSync('sh', [
      '-c',
      `grep -arlF -e '${needles[0]}' -e '${needles[1]}' ${pathsOf('ctl1').stateDir} || true`,
    ]);
    t.equal(controller.toString(), '', 'nor has the controller’s disk');
    t.match(
      readFileSync(join(pathsOf('ctl1').stateDir, 'audit.log'), 'utf8'),
      /"host:edge".*Secret\/istio-system\/web-cert/,
    );
  });

  await t.test('a rotation is served at once', async (t) => {
    await world.apply(yaml(secret(1)));
    await world.until(() => served(1), 'the new certificate', 30_000);
    t.equal((await https(0)).status, 0);
  });

  await t.test('power loss and no controller: the kept one is served', async (t) => {
    must(await world.lab('kill', 'controller'), 'kill controller');
    must(await world.lab('kill', 'edge', 'all'), 'kill edge');
    must(await world.lab('start', 'edge', 'all'), 'start edge');
    await world.until(() => served(1), 'HTTPS after the boot', 60_000);
    must(await world.lab('start', 'controller'), 'start controller');
    await world.until(
      async () => (await world.rest('GET', SECRET).catch(() => undefined))?.status === 200,
      'REST',
      60_000,
    );
    t.pass();
  });

  await t.test('a deleted Secret is served on and said; with its Gateway the port and the file go', async (t) => {
    t.equal((await world.rest('DELETE', SECRET)).status, 200);
    await world.until(async () => /its last version is served on/.test(await problems()), 'the problem', 60_000);
    t.ok(await served(1));
    await world.apply(yaml(gateway('public', [server(80, 'HTTP')])));
    await world.until(async () => (await https(1)).status === 0, 'the port to close', 30_000);
    await world.until(() => readdirSync(kept).length === 0, 'the file to go', 20_000);
  });

  await t.test('a port that another program has is named, and is served when it goes', async (t) => {
    const squatter =
      "require('net').createServer().listen(8088, '::', () => console.log('here')); process.stdin.on('end', () => process.exit()).resume();";
    const squat = await world.start('edge', undefined, [HOST_NODE, '-e', squatter], /here/);
    await world.apply(yaml(gateway('more', [server(8088, 'HTTP')])));
    const named = async () => /gateway port 8088 is not served: another program/.test(await problems());
    await world.until(named, 'the port to be named', 30_000);
    await squat.finish();
    await world.until(async () => !(await named()), 'the port to be served', 60_000);
    t.pass();
  });

  await t.test('a revoked gateway serves nobody and is given nothing', async (t) => {
    const deliveries = () =>
      readFileSync(join(pathsOf('ctl1').stateDir, 'audit.log'), 'utf8')
        .split('\n')
        .filter((line) => /"host:edge".*Secret\/istio-system\/web-cert/.test(line)).length;
    // It waits for a Secret, having asked for it before it was revoked.
    await world.apply(yaml(gateway('public', [server(80, 'HTTP'), ...HTTPS])));
    await world.until(async () => /no Secret istio-system\/web-cert/.test(await problems()), 'the problem', 30_000);
    const before = deliveries();
    t.ok(before >= 2, 'what it was given was recorded');
    must(await world.meshctl(['hosts', 'revoke', 'edge']), 'revoke');
    await world.apply(yaml(secret(0)));
    await world.until(
      async () =>
        (await world.curl('plain', undefined, `http://${NAME}/`, ['--resolve', `${NAME}:80:${EDGE}`])).status !== 200,
      'the gateway to be refused',
      30_000,
    );
    await setTimeout(3000); // earlier a Secret took less than one
    t.same(readdirSync(kept), []);
    t.equal((await https(0)).status, 0);
    t.equal(deliveries(), before);
  });
});

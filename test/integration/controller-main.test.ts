/** mesh-controller as a process: its command line, what init leaves, the whole way from init to a joined and a revoked host, restarts, kills. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseAgentConfig } from '../../agent/config.ts';
import { createConfigCache } from '../../agent/controlplane/cache.ts';
import { createControllerClient } from '../../agent/controlplane/client.ts';
import { createHostApi, type HostApi } from '../../agent/controlplane/host-api.ts';
import { createTlsClient, type ServerTrust } from '../../agent/controlplane/https.ts';
import { createTrustedConfig } from '../../agent/controlplane/trusted-config.ts';
import { loadSvid, newKey } from '../../agent/identity/svid-file.ts';
import { joinMesh } from '../../agent/join.ts';
import { AGENT_API, type HostStatus } from '../../api/http/agent-api.ts';
import { parseJoinString } from '../../api/http/join-string.ts';
import { OPERATOR_API } from '../../api/http/operator-api.ts';
import { createCsr, parseChain, subjectAltNames } from '../../api/identity/x509.ts';
import type { DesiredConfig } from '../../api/signed-config/desired-config.ts';
import { trustAnchor, versionsOf } from '../../api/signed-config/verifier.ts';
import { byToken } from '../../controller/rest/principals.ts';
import { openSqliteStore } from '../../controller/store/sqlite.ts';
import { systemClock } from '../../runtime/clock.ts';
import { until } from '../fakes/until.ts';
import {
  controllerCommand,
  controllerYaml,
  createMeshctl,
  freePorts,
  type Running,
  runController,
  spawnController,
} from './controller-process.ts';

t.setTimeout(580_000);

t.test('command line: what it cannot do it says, with the exit code of its kind, and touches nothing', async (t) => {
  const dir = t.testdir({ huge: '#'.repeat(300_000) });
  const good = join(dir, 'good.yaml');
  const bad = join(dir, 'bad.yaml');
  const stateDir = join(dir, 'state');
  await writeFile(good, controllerYaml(stateDir, { rest: 15200, agents: 15201 }));
  await writeFile(bad, `${controllerYaml(stateDir, { rest: 80, agents: 15201 })}colour: blue\nlogLevel: loud\n`);
  const places = [
    `${bad}:5:15: ports.rest: expected a whole number from 1024 to 65535, found 80`,
    `${bad}:6:1: unknown key colour; allowed here: `,
    `${bad}:7:11: logLevel: expected one of error, warn, info, debug, found "loud"`,
  ];
  const cases: [args: string[], code: number, says: string[]][] = [
    [[], 64, ['usage: mesh-controller']],
    [['serve'], 64, ['usage: mesh-controller']],
    [['run', 'now'], 64, ['unexpected now', 'usage']],
    [['run', '--colour'], 64, ['--colour', 'usage']],
    [['run', '--root-keys', '3'], 64, ['go with init']],
    [['init', '--root-keys', 'many'], 64, ['numbers from 1 to 9']],
    [['--help'], 0, ['usage: mesh-controller']],
    [['--version'], 0, ['mesh-controller 0.']],
    [['check-config', '--config', good], 0, ['is valid']],
    [['run', '--check-config', '--config', good], 0, ['is valid']],
    [['check-config', '--config', bad], 78, places],
    [['init', '--config', bad], 78, places],
    [['run', '--config', bad], 78, places],
    [['run', '--config', join(dir, 'none.yaml')], 78, ['none.yaml']],
    [['run', '--config', dir], 78, [dir, 'EISDIR']],
    [['run', '--config', join(dir, 'huge')], 78, ['larger than 262144 bytes']],
    [['run', '--config', '/dev/zero'], 78, ['larger than 262144 bytes']],
    [['run', '--config', good], 78, ['mesh-controller init']],
  ];
  for (const [args, code, says] of cases) {
    const done = await controllerCommand(...args);
    t.equal(done.code, code, `${args.join(' ')}: ${done.err}`);
    for (const text of says) t.ok((code === 0 ? done.out : done.err).includes(text), `${args.join(' ')} says ${text}`);
    t.equal(code === 0 ? done.err : done.out, '', 'and nothing on the other stream');
  }
  t.notOk(existsSync(stateDir));
});

interface World {
  readonly dir: string;
  readonly stateDir: string;
  readonly configPath: string;
  readonly ports: { readonly rest: number; readonly agents: number };
  readonly meshctl: ReturnType<typeof createMeshctl>;
  /** The controller that runs now; stopped at the end. */
  run(): Promise<Running>;
}

async function initialised(t: Test): Promise<World> {
  const dir = await mkdtemp(join(tmpdir(), 'mesh-controller-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const stateDir = join(dir, 'state');
  const configPath = join(dir, 'controller.yaml');
  const ports = await freePorts();
  await mkdir(stateDir, { mode: 0o700 }); // ours: where the machine has a user mesh-controller, a new one would be that user's
  await writeFile(configPath, controllerYaml(stateDir, ports));
  const made = await controllerCommand('init', '--config', configPath);
  if (made.code !== 0) throw new Error(made.err);
  return {
    dir,
    stateDir,
    configPath,
    ports,
    meshctl: createMeshctl(stateDir, ports.rest),
    async run() {
      const running = await runController(configPath);
      t.teardown(() => running.stop('SIGKILL'));
      return running;
    },
  };
}

async function emptied(dir: string): Promise<void> {
  await rm(dir, { recursive: true });
  await mkdir(dir, { mode: 0o700 });
}

/** Path -> [mode, content] of all files and folders below `dir`. */
async function tree(dir: string): Promise<Map<string, [mode: number, content: string]>> {
  const found = new Map<string, [number, string]>();
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const { mode } = await stat(path);
    found.set(path, [mode & 0o7777, entry.isFile() ? await readFile(path, 'latin1') : '']);
  }
  return found;
}

/** No file that others may read holds a secret; folders are the owner's. */
async function assertClosed(t: Test, dir: string): Promise<void> {
  for (const [path, [mode, content]] of await tree(dir)) {
    const isCertificate = /^-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\s*$/.test(content);
    if (!isCertificate) t.equal(mode & 0o077, 0, `${path}: ${mode.toString(8)}`);
  }
}

t.test('init: says where everything is and shows no secret; a second one changes nothing', async (t) => {
  const world = await initialised(t);
  await emptied(world.stateDir);
  const made = await controllerCommand(
    'init',
    '--config',
    world.configPath,
    '--root-keys',
    '3',
    '--root-threshold',
    '2',
  );
  t.equal(made.code, 0, made.err);
  for (const file of ['admin-token', 'ca.pem', 'mesh/keys/root-1.pem', 'mesh/keys/root-3.pem'])
    t.ok(made.out.includes(join(world.stateDir, file)), file);
  const token = (await readFile(join(world.stateDir, 'admin-token'), 'utf8')).trim();
  t.notOk(made.out.includes(token));
  await assertClosed(t, world.stateDir);
  const before = await tree(world.stateDir);
  const again = await controllerCommand('init', '--config', world.configPath);
  t.equal(again.code, 1);
  t.match(again.err, /holds a mesh already; nothing was changed/);
  t.same(await tree(world.stateDir), before);

  await world.run();
  const client = createControllerClient({ trust: () => undefined, now: Date.now });
  t.teardown(() => client.close());
  const { text } = await client.rootV1(`https://127.0.0.1:${world.ports.agents}`);
  t.ok(
    made.out.includes(createHash('sha256').update(text).digest('hex')),
    'the pin that init told is that of the root served',
  );
  const status = await world.meshctl(['status']);
  t.match(status.out, /Root keys:\s+2 of 3; KEPT ON THE CONTROLLER/);
});

t.test('init as root makes it all for the owner of the state folder', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'mesh-controller-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await chmod(dir, 0o755);
  const stateDir = join(dir, 'state');
  await mkdir(stateDir, { mode: 0o700 });
  await chown(stateDir, 12_345, 12_346);
  await writeFile(join(dir, 'c.yaml'), controllerYaml(stateDir, { rest: 15200, agents: 15201 }));
  const made = await controllerCommand('init', '--config', join(dir, 'c.yaml'));
  t.equal(made.code, 0, made.err);
  for (const path of [stateDir, ...(await tree(stateDir)).keys()]) {
    const { uid, gid } = await stat(path);
    t.same({ uid, gid }, { uid: 12_345, gid: 12_346 }, path);
  }
});

t.test('init killed at any moment leaves a whole mesh, or nothing that stands in the way of the next', async (t) => {
  const world = await initialised(t);
  const mesh = join(world.stateDir, 'mesh');
  const moments = [
    `${mesh}.new`,
    `${mesh}.new/keys/root-1.pem`,
    `${mesh}.new/keys/online-c1.pem`,
    `${mesh}.new/ca/ca-root.key`,
    join(world.stateDir, 'admin-token'),
    mesh,
  ];
  let halves = 0;
  for (const moment of moments) {
    await emptied(world.stateDir);
    const { child, finished } = spawnController('init', '--config', world.configPath);
    const gone = () => child.exitCode !== null || child.signalCode !== null;
    await until(() => gone() || existsSync(`${mesh}.new`) || existsSync(mesh), 'init to begin', 20_000);
    // Without a pause: between two of these lie fractions of a millisecond.
    while (!gone() && !existsSync(moment)) await new Promise((resolve) => setImmediate(resolve));
    child.kill('SIGKILL');
    await finished;
    const whole = existsSync(mesh);
    if (!whole) halves++;
    const next = await controllerCommand('init', '--config', world.configPath);
    t.equal(next.code, whole ? 1 : 0, `killed at ${moment}: ${next.err}`);
    t.same(existsSync(`${mesh}.new`), false, 'nothing is left beside');
    await assertClosed(t, world.stateDir);
    const store = openSqliteStore({ path: join(mesh, 'store.db') });
    const token = (await readFile(join(world.stateDir, 'admin-token'), 'utf8')).trim();
    t.match(await byToken(store, token), { name: 'admin' }, 'the token is that of this mesh');
    await store.close();
  }
  const running = await world.run();
  t.equal((await world.meshctl(['status'])).code, 0, 'the last one runs');
  t.equal((await running.stop()).code, 0);
  t.ok(halves > 0, `${halves} of ${moments.length} were cut in the middle`);
});

const OBJECTS = `apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: web}
spec:
  metadata: {labels: {app: web}}
  template: {serviceAccount: web, ports: {http: 8080}}
`;

const STATUS: HostStatus = {
  host: 'a',
  agentVersion: '0.1.0',
  capability: 1,
  generation: 1,
  ackedGeneration: 1,
  envoyConnected: true,
  refused: [],
  workloads: [],
  peers: { alive: 0, suspect: 0, dead: 0 },
  problems: [],
};

/** A host by its own rooms: what it holds after `mesh-agent join`. */
interface JoinedHost {
  readonly api: HostApi;
  readonly trust: ServerTrust;
  readonly epoch: number;
  readonly desired: DesiredConfig;
  /** Waits for the generation of which `wanted` is true; ms it took. */
  follow(wanted: (desired: DesiredConfig) => boolean): Promise<number>;
  /** PUT of any body as status; the HTTP status. */
  report(body: unknown): Promise<number>;
}

async function agentYaml(dir: string): Promise<string> {
  await mkdir(dir, { recursive: true });
  const path = join(dir, 'agent.yaml');
  await writeFile(path, `stateDir: ${dir}/state\nrunDir: ${dir}/run\naddresses: [127.0.0.1]\n`);
  return path;
}

async function joinWith(dir: string, joinString: string) {
  const configPath = await agentYaml(dir);
  const configText = await readFile(configPath, 'utf8');
  const join_ = parseJoinString(joinString);
  return {
    ...(await joinMesh({ join: join_, configPath, configText, clock: systemClock, owner: undefined })),
    configPath,
  };
}

async function joinHost(t: Test, dir: string, joinString: string): Promise<JoinedHost> {
  const { epoch, configPath } = await joinWith(dir, joinString);
  const config = parseAgentConfig(await readFile(configPath, 'utf8'), configPath);
  const [url] = config.controllers as [string];
  const cache = createConfigCache(join(config.stateDir, 'config'));
  const trusted = createTrustedConfig(await cache.load(), { cache, now: Date.now });
  const desired = trusted.desired() as DesiredConfig;
  const intermediates = [...desired.anchors.values()].map((anchor) => anchor.intermediatePem);
  const trust = { intermediates, trustDomain: config.trustDomain };
  const svid = await loadSvid(join(config.stateDir, 'identity', 'host.pem'));
  if (svid === undefined) throw new Error('no SVID');
  const deps = { trust: () => trust, identity: () => svid, now: Date.now };
  const api = createHostApi({ ...deps, replicas: () => [[url]] });
  const raw = createTlsClient(deps);
  const client = createControllerClient({ trust: () => trust, now: Date.now });
  t.teardown(() => [api, raw, client].map((one) => one.close()));
  return {
    api,
    trust,
    epoch,
    desired,
    async follow(wanted) {
      const start = performance.now();
      while (!wanted(trusted.desired() as DesiredConfig)) {
        if (performance.now() - start > 30_000) throw new Error('that generation never came');
        const body = await client.config(url, versionsOf(trusted.state()), 5);
        const outcome = body === undefined ? undefined : await trusted.offer(body);
        if (outcome?.kind === 'refused') throw outcome.error;
      }
      return performance.now() - start;
    },
    async report(body) {
      const call = { method: 'PUT', url: url + AGENT_API.status, body: JSON.stringify(body) } as const;
      return (await raw.call({ ...call, maxBytes: 65_536, timeoutMs: 5000 })).status;
    },
  };
}

t.test('from init to a joined host, its revocation, and all of it after restarts', async (t) => {
  const world = await initialised(t);
  const { meshctl, stateDir, ports } = world;
  const first = await world.run();
  const ok = async (args: readonly string[], stdin?: string) => {
    const done = await meshctl(args, stdin);
    t.equal(done.code, 0, `meshctl ${args.join(' ')}: ${done.err}`);
    return done.out.trim();
  };
  const token = async (host: string, group: string) => ok(['token', 'create', '--host', host, '--group', group]);

  t.match(await ok(['apply', '-f', '-'], OBJECTS), /Service\/default\/web created|service\/web created/i);
  t.match(await ok(['get', 'services']), /web/);
  const strings = [await token('a', 'default/web'), await token('b', 'default/web'), await token('a', 'default/web')];
  const [forA, forB, spareForA] = strings as [string, string, string];
  const a = await joinHost(t, join(world.dir, 'a'), forA);
  const b = await joinHost(t, join(world.dir, 'b'), forB);

  await t.test('a host has what its grant names, and nothing else', async (t) => {
    t.same([...(a.desired.hosts.get('a')?.workloadGroups ?? [])], ['default/web'], 'the grant came with the join');
    t.equal(a.epoch, 1);
    await t.rejects(joinWith(join(world.dir, 'thief'), forA), { code: 'TOKEN_SPENT' });
    const csr = createCsr(newKey());
    const { results } = await a.api.svids({
      requests: [
        { kind: 'workload', group: 'default/web', csr },
        { kind: 'workload', group: 'default/db', csr },
      ],
    });
    const [granted, other] = results as [{ svid: string }, { code: string }];
    const [leaf] = parseChain(granted.svid);
    t.match(subjectAltNames((leaf as { raw: Buffer }).raw), {
      uris: ['spiffe://mesh.test/ns/default/sa/web'],
      dnsNames: ['a.hosts.mesh.test'],
    });
    t.equal(other.code, 'NOT_GRANTED');
  });

  await t.test('what hosts report is judged, and shown', async (t) => {
    t.equal(await a.report({ ...STATUS, host: 'b' }), 403, 'for another host');
    t.equal(await a.report({ ...STATUS, problems: 'none' }), 400);
    t.equal(await a.report({ ...STATUS, problems: ['x'.repeat(300_000)] }), 413);
    t.notMatch(await ok(['get', 'hosts', 'a', '-o', 'json']), /"status"/, 'none of these was taken');
    t.equal(await a.report({ ...STATUS, problems: ['no SVID for default/web yet'] }), 204);
    t.match(JSON.parse(await ok(['get', 'hosts', 'a', '-o', 'json'])), {
      kind: 'Host',
      spec: { workloadGroups: ['default/web'], epoch: 1, revoked: false },
      status: { host: 'a', problems: ['no SVID for default/web yet'] },
    });
    t.match(await ok(['describe', 'host', 'a']), /no SVID for default\/web yet/);
    t.match(await ok(['status']), /Hosts:\s+2 granted, 1 reporting/);
  });

  await t.test('nobody else gets in', async (t) => {
    const refused = createMeshctl(stateDir, ports.rest, { MESH_TOKEN_FILE: '', MESH_TOKEN: 'admin.guess' });
    const done = await refused(['get', 'services']);
    t.equal(done.code, 1);
    t.match(done.err, /does not know this credential \(401\)/);
    const anonymous = createTlsClient({ trust: () => a.trust, now: Date.now });
    t.teardown(() => anonymous.close());
    const url = `https://127.0.0.1:${ports.agents}${AGENT_API.status}`;
    const call = { method: 'PUT', url, body: JSON.stringify(STATUS), maxBytes: 65_536, timeoutMs: 5000 } as const;
    t.equal((await anonymous.call(call)).status, 401, 'a status without a host SVID');
  });

  await t.test('revoked by one command: every host hears it at once', async (t) => {
    const heard = b.follow((desired) => desired.revokedHosts.has('a'));
    t.match(await ok(['hosts', 'revoke', 'a']), /a revoked/);
    await heard;
    t.equal(await a.report(STATUS), 403);
    await t.rejects(a.api.svids({ requests: [{ kind: 'workload', group: 'default/web', csr: createCsr(newKey()) }] }), {
      code: 'HOST_REVOKED',
    });
    await t.rejects(
      joinWith(join(world.dir, 'again'), spareForA),
      { code: 'TOKEN_REFUSED' },
      'its open tokens are dead',
    );
    const back = await meshctl(['token', 'create', '--host', 'a', '--group', 'default/web']);
    t.equal(back.code, 1);
    t.match(back.err, /revoked.*another id/);
    t.match(await ok(['status']), /Hosts:\s+1 granted, 0 reporting, 0 at this generation, 1 revoked/);
  });

  await t.test('SIGHUP takes the log level up and names what waits for a restart', async (t) => {
    await writeFile(world.configPath, controllerYaml(stateDir, ports, 'logLevel: debug\ndnsNames: [c1.test]\n'));
    first.signal('SIGHUP');
    await until(() => first.log.some((line) => line.message === 'controller.yaml was read again'), 'the reload');
    t.same(
      first.log
        .filter(({ level }) => level === 'warn')
        .map(({ keys }) => keys)
        .filter((keys) => keys !== undefined),
      [['dnsNames']],
    );
    await writeFile(world.configPath, 'trustDomain: [');
    first.signal('SIGHUP');
    await until(
      () => first.log.some((line) => /refused; the running config stays/.test(`${line.message}`)),
      'a refusal',
    );
    await writeFile(world.configPath, controllerYaml(stateDir, ports));
    await ok(['status']);
  });

  await t.test('one controller a state folder', async (t) => {
    const other = join(world.dir, 'other.yaml');
    await writeFile(other, controllerYaml(stateDir, await freePorts()));
    const done = await controllerCommand('run', '--config', other);
    t.equal(done.code, 1);
    t.match(done.err, /another process has .*store\.db open/);
    await ok(['status']);
  });

  const shown = async () => ({
    services: JSON.parse(await ok(['get', 'services', '-o', 'json'])).items,
    groups: JSON.parse(await ok(['get', 'workloadgroups', '-o', 'json'])).items,
    hosts: JSON.parse(await ok(['get', 'hosts', '-o', 'json'])).items.map(
      ({ status: _status, ...rest }: object & { status?: unknown }) => rest,
    ),
  });
  await t.test('stopped in order, killed: what was is still there', async (t) => {
    const before = await shown();
    const { code } = await first.stop();
    t.equal(code, 0, 'SIGTERM is an orderly stop');
    const second = await world.run();
    t.same(await shown(), before);
    t.equal(await b.report({ ...STATUS, host: 'b' }), 204, 'a host that joined before is known');
    t.equal(await a.report(STATUS), 403, 'a revoked one is not');
    t.match(await ok(['apply', '-f', '-'], OBJECTS.replace('name: web', 'name: late')), /created/);
    const killed = await second.stop('SIGKILL');
    t.equal(killed.signal, 'SIGKILL');
    const third = await world.run();
    t.match(await ok(['get', 'services']), /late/, 'acknowledged is kept');
    await b.follow((desired) => [...desired.objects.keys()].some((key) => key === 'Service/default/late'));
    t.equal((await third.stop('SIGINT')).code, 0);
    t.notMatch([first, second, third].map((one) => one.text()).join(''), /PRIVATE KEY|mesh1\.|admin\.[\w-]{20}/);
  });

  await t.test('no secret lies open, or in the audit log', async (t) => {
    await assertClosed(t, stateDir);
    const audit = readFileSync(join(stateDir, 'audit.log'), 'utf8');
    t.match(audit, /"verb":"revoke"/);
    t.match(audit, /JoinToken\/\/a/);
    for (const secret of [
      ...strings.map((text) => parseJoinString(text).secret),
      readFileSync(join(stateDir, 'admin-token'), 'utf8').trim(),
    ])
      t.notOk(audit.includes(secret));
  });
});

/** PUT-like writes by one kept connection: each acknowledged name is remembered. */
async function writeUntilKilled(world: World, round: number, acknowledged: string[], running: Running): Promise<void> {
  const token = readFileSync(join(world.stateDir, 'admin-token'), 'utf8').trim();
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: readFileSync(join(world.stateDir, 'ca.pem')) });
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const write = (name: string) =>
    new Promise<number>((resolve, reject) => {
      const body = JSON.stringify({ objects: ['one', 'two'].map((half) => service(`${name}-${half}`)) });
      const options = {
        host: '127.0.0.1',
        port: world.ports.rest,
        path: OPERATOR_API.apply,
        method: 'POST',
        headers,
        agent,
      };
      const sent = request(options, (response) => {
        response
          .resume()
          .once('end', () => resolve(response.statusCode ?? 0))
          .once('error', reject);
      });
      sent.once('error', reject).end(body);
    });
  let ended: Promise<unknown> | undefined;
  try {
    for (let i = 0; ; i++) {
      if (i === 5 + round * 9) ended = running.stop('SIGKILL');
      const name = `k${round}-${i}`;
      if ((await write(name)) === 200) acknowledged.push(name);
    }
  } catch {
    // its connection ended with it
  }
  agent.destroy();
  await ended;
}

const service = (name: string) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'default' },
  spec: { ports: [{ name: 'http', port: 80 }] },
});

t.test(
  'killed under writes, again and again: nothing acknowledged is lost, no transaction is halved, no number comes twice',
  async (t) => {
    const world = await initialised(t);
    const acknowledged: string[] = [];
    const url = `https://127.0.0.1:${world.ports.agents}`;
    const client = createControllerClient({ trust: () => undefined, now: Date.now });
    t.teardown(() => client.close());
    let running = await world.run();
    const { text: root } = await client.rootV1(url);
    // One host through all of it: it refuses rollback, equivocation, and what is not signed.
    const trusted = createTrustedConfig(
      { state: trustAnchor(root), desired: undefined },
      { cache: { save: async () => {} }, now: Date.now },
    );
    for (let round = 0; round < 4; round++) {
      await writeUntilKilled(world, round, acknowledged, running);
      running = await world.run();
      await until(async () => {
        const body = await client.config(url, versionsOf(trusted.state()), 0);
        if (body === undefined) return true;
        const outcome = await trusted.offer(body);
        if (outcome.kind === 'refused') throw outcome.error;
        return false;
      }, 'the host to hold all that is signed');
      const names = [...(trusted.desired()?.objects.keys() ?? [])].filter((key) => key.startsWith('Service/default/k'));
      for (const name of acknowledged)
        for (const half of ['one', 'two'])
          t.ok(names.includes(`Service/default/${name}-${half}`), `round ${round}: ${name}-${half}`);
      t.equal(names.length % 2, 0, 'both halves or none');
    }
    t.ok(acknowledged.length >= 40, `${acknowledged.length} writes were acknowledged`);
    t.equal((await running.stop()).code, 0);
  },
);

t.test('an address that is taken: it says so and ends', async (t) => {
  const world = await initialised(t);
  await world.run();
  const other = join(world.dir, 'other.yaml');
  await mkdir(join(world.dir, 'state2'), { mode: 0o700 });
  await writeFile(other, controllerYaml(join(world.dir, 'state2'), world.ports));
  t.equal((await controllerCommand('init', '--config', other)).code, 0);
  const done = await controllerCommand('run', '--config', other);
  t.equal(done.code, 1);
  t.match(done.err, new RegExp(`EADDRINUSE.*${world.ports.rest}`));
});

t.test('a damaged state is named, with the way back, and never taken for none', async (t) => {
  const world = await initialised(t);
  const mesh = join(world.stateDir, 'mesh');
  const cases: [file: string, says: RegExp][] = [
    ['facts.json', /facts\.json is broken: restore it from a backup/],
    ['ca/ca-intermediate.key', /ca-intermediate\.key is broken; restore it from a backup/],
    ['ca/ca-root.pem', /ca-root\.pem is broken; restore it from a backup/],
    ['keys/online-c1.pem', /online-c1\.pem is not a readable P-256 key/],
    ['store.db', /store\.db/],
  ];
  for (const [file, says] of cases) {
    const path = join(mesh, file);
    const content = await readFile(path);
    for (const damage of ['overwritten', 'removed'] as const) {
      if (damage === 'removed') await rm(path);
      else await writeFile(path, 'x'.repeat(content.length));
      const done = await controllerCommand('run', '--config', world.configPath);
      t.equal(done.code, 78, `${file} ${damage}: ${done.err}`);
      if (damage === 'overwritten') t.match(done.err, says, file);
      else t.match(done.err, /backup/, `${file} removed`);
      await writeFile(path, content, { mode: 0o600 });
    }
  }
  const running = await world.run();
  t.equal((await running.stop()).code, 0, 'put back, it runs');
});

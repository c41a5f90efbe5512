import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { test } from 'tap';
import { createExec } from '../../agent/host/exec.ts';
import { OPERATOR_API } from '../../api/http/operator-api.ts';
import { adminStatus } from '../../scripts/lib/lab/admin.ts';
import { takeDown } from '../../scripts/lib/lab/down.ts';
import { pathsOf } from '../../scripts/lib/lab/paths.ts';
import { planLab } from '../../scripts/lib/lab/plan.ts';
import { OPERATOR } from '../../scripts/lib/lab/programs.ts';
import type { LabStatus } from '../../scripts/lib/lab/status.ts';
import { parseTopology } from '../../scripts/lib/lab/topology.ts';
import { bringUp } from '../../scripts/lib/lab/up.ts';
import { idsOf } from '../../scripts/lib/lab/users.ts';
import { fakePrograms } from '../fakes/lab-programs.ts';

const TOPOLOGY = `controllers: 1
hosts:
  - {name: a, workloads: [{name: client, user: hm-client, ports: {http: 7070}}]}
  - {name: b, workloads: [{name: web, ports: {http: 8080}}, {name: db, namespace: data, ports: {tcp: 5432}}]}
  - {name: plain, agent: false}
`;

const lab = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync('scripts/lab', args, { encoding: 'utf8' });
  return { status, stdout, stderr };
};
const statusOf = (name: string) =>
  (JSON.parse(lab('status', '--json').stdout) as LabStatus).nodes.find((n) => n.name === name);
const lines = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : []);

async function until(what: string, condition: () => boolean): Promise<void> {
  const end = performance.now() + 30_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within 30 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test('up joins hosts and runs units as their users; stop, start and kill do what they say', async (t) => {
  const exec = createExec();
  t.teardown(() => takeDown(exec));
  const plan = planLab(parseTopology(TOPOLOGY, 'x.yaml'));
  await bringUp({ exec, programs: fakePrograms, say: () => {} }, plan);
  const [a, b, ctl1] = [pathsOf('a'), pathsOf('b'), pathsOf('ctl1')];

  await t.test('the operator made groups and join strings; the hosts joined with theirs', async (t) => {
    const calls = lines(`${ctl1.stateDir}/calls`).map((l) => JSON.parse(l) as [string, string, string]);
    const applied = calls
      .filter(([, path]) => path === OPERATOR_API.apply)
      .flatMap(([, , text]) => JSON.parse(text).objects);
    t.strictSame(
      applied.map((o) => `${o.metadata.namespace}/${o.metadata.name}`),
      ['default/client', 'default/web', 'data/db'],
    );
    const tokens = calls
      .filter(([, path]) => path === OPERATOR_API.joinTokens)
      .map(([, , text]) => JSON.parse(text).spec);
    t.strictSame(
      tokens.sort((x, y) => (x.host < y.host ? -1 : 1)),
      [
        { host: 'a', workloadGroups: ['default/client'], peers: [] },
        { host: 'b', workloadGroups: ['default/web', 'data/db'], peers: ['10.77.0.11:15300'] },
      ],
    );
    t.equal(readFileSync(`${b.stateDir}/joined`, 'utf8'), 'mesh1.b', 'by stdin');
  });

  await t.test('credentials of the operator, secrets readable by root only', async (t) => {
    t.equal(
      lab('env').stdout,
      `MESH_API=https://10.77.0.2:15200\nMESH_CA_FILE=${OPERATOR.caFile}\nMESH_TOKEN=secret-of-the-admin\n`,
    );
    t.equal(statSync(OPERATOR.token).mode & 0o777, 0o600);
    const curl = [
      '-s',
      '-m',
      '5',
      '-o',
      '/dev/null',
      '-w',
      '%{http_code}',
      '--cacert',
      OPERATOR.caFile,
      'https://10.77.0.2:15200/',
    ];
    t.equal(
      spawnSync('curl', curl, { encoding: 'utf8' }).stdout,
      '401',
      'the controller is reached from outside, its certificate verified',
    );
  });

  await t.test('units run as their users, without core dumps, with the DNS sockets', async (t) => {
    const { uid } = await idsOf('mesh-agent');
    const { gid } = await idsOf('mesh-proxy');
    const asked = (await adminStatus(b.runDir)) as unknown as {
      uid: number;
      passed: number;
      groups: number[];
      coreLimit: string;
    };
    t.equal(asked.uid, uid);
    t.ok(asked.groups.includes(gid), 'mesh-agent is in the group of the proxy');
    t.equal(asked.passed, 8, 'two namespaces: UDP and TCP, both families each');
    t.equal(asked.coreLimit, '0');
    t.equal(statSync(`${b.runDir}/admin.sock`).gid, gid, 'what the agent makes is of the group of the proxy');
    const proxy = statusOf('b')?.units.proxy?.pid;
    t.equal(statSync(`/proc/${proxy}`).uid, (await idsOf('mesh-proxy')).uid);
    await until('root applied the rules that the agent asked for', () =>
      lines(`${b.runDir}-redirects`).includes('apply by 0'),
    );
  });

  await t.test('kill and restart', async (t) => {
    const before = statusOf('a')?.units;
    t.equal(lab('kill', 'a', 'agent').status, 0);
    await until(
      'the agent is back',
      () => statusOf('a')?.ready === true && statusOf('a')?.units.agent?.pid !== before?.agent?.pid,
    );
    t.equal(statusOf('a')?.units.proxy?.pid, before?.proxy?.pid, 'the proxy outlives the agent');
    lab('kill', 'a', 'proxy', '--stay-down');
    t.match(statusOf('a')?.units.proxy, { state: 'stopped' });
    lab('start', 'a', 'proxy');
    t.match(statusOf('a')?.units.proxy, { state: 'running' });
    lab('kill', 'controller');
    t.match(statusOf('ctl1')?.units.controller, { state: 'stopped' }, 'a killed controller stays down');
    lab('start', 'controller', '1');
    t.match(statusOf('ctl1')?.units.controller, { state: 'running' });
    t.match(lab('stop', 'controller', '2'), { status: 1, stderr: /no host ctl2/ });
  });

  await t.test('an orderly stop takes the rules away; a power loss is followed by a boot without any', async (t) => {
    lab('stop', 'a', 'agent');
    t.equal(lines(`${a.stateDir}/asked`).at(-1), 'POST /leave');
    t.equal(lines(`${a.runDir}-redirects`).at(-1), 'clean by 0');
    t.match(statusOf('a')?.units, { agent: { state: 'stopped' }, proxy: { state: 'stopped' } });
    lab('start', 'a', 'all');
    await until('a is back', () => statusOf('a')?.ready === true);
    lab('kill', 'a', 'all');
    t.match(statusOf('a')?.units, { agent: { state: 'stopped' }, proxy: { state: 'stopped' } });
    const cleaned = lines(`${a.runDir}-redirects`).filter((l) => l.startsWith('clean')).length;
    lab('start', 'a', 'all');
    await until('a is back', () => statusOf('a')?.ready === true);
    t.equal(lines(`${a.runDir}-redirects`).filter((l) => l.startsWith('clean')).length, cleaned + 1);
  });

  await takeDown(exec);
  t.notOk(existsSync('/run/hostmesh-lab'));
  t.notMatch(readFileSync('/etc/passwd', 'utf8'), /^(hm-|mesh-)/m);
  t.notMatch(spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout, /^hm-/m);
});

test('what fails on the way up names its cause and is taken down whole', async (t) => {
  const exec = createExec();
  t.teardown(() => takeDown(exec));
  const plan = planLab(parseTopology('hosts: [{name: a}]\n', 'x.yaml'));
  const broken = {
    ...fakePrograms,
    agentJoin: () => ({ argv: ['sh', '-c', 'echo the secret is wrong >&2; exit 1'], env: {} }),
  };
  await t.rejects(bringUp({ exec, programs: broken, say: () => {} }, plan), {
    code: 'COMMAND_FAILED',
    message: /the secret is wrong/,
  });
  t.ok(await takeDown(exec));
  t.notOk(existsSync('/run/hostmesh-lab'));
  t.notOk(await takeDown(exec), 'there is none any more');
});

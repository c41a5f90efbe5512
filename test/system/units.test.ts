// Workloads bound to systemd units on a booted machine: two services under two identities, what a restart and a drop-in change, and the order
// in which they start. a calls; b runs reviews.service and ratings.service.
import tap, { type Test } from 'tap';
import { eventually, type Machine } from '../../scripts/lib/package/machine.ts';
import { apt, journal, rulesOf } from './mesh.ts';
import {
  type Bound,
  callerOf,
  createSmallMesh,
  explained,
  get,
  isActive,
  join_,
  type SmallMesh,
  sampleUnit,
  setWorkloads,
  untilStopped,
} from './small-mesh.ts';

tap.setTimeout(600_000);

const group = (name: string, port: number) => `
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: default}
spec:
  selector: {app: ${name}}
  ports: [{name: http, port: ${port}}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: ${name}, namespace: default}
spec:
  metadata: {labels: {app: ${name}}}
  template: {serviceAccount: ${name}, labels: {app: ${name}}, ports: {http: ${port}}}
---`;
/** STRICT for one of the two by its labels, PERMISSIVE for all else. */
const OBJECTS = `${group('reviews', 9080)}${group('ratings', 9081)}${group('client', 9079)}
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: reviews, namespace: default}
spec:
  selector: {matchLabels: {app: reviews}}
  mtls: {mode: STRICT}
`;
const CLIENT: Bound = { group: 'default/client', by: 'user: client' };
const REVIEWS: Bound = { group: 'default/reviews', by: 'unit: reviews.service' };
const RATINGS: Bound = { group: 'default/ratings', by: 'unit: ratings.service' };
const identity = (name: string) => `spiffe://mesh.test/ns/default/sa/${name}`;
const DROP_IN = '/etc/systemd/system/reviews.service.d/50-mesh.conf';

const status = async (machine: Machine) =>
  JSON.parse(await machine.must('meshctl --socket /run/mesh/admin.sock status -o json')) as { problems?: string[] };

/** The caller that `url` sees when this user of the machine asks. */
async function seenAs(machine: Machine, user: string, url: string): Promise<string | undefined> {
  return callerOf((await get(machine, user, url)).reply);
}

const untilSeenAs = (what: string, machine: Machine, user: string, url: string, caller: string, withinMs = 15_000) =>
  eventually(what, withinMs, async () => (await seenAs(machine, user, url)) === caller);

/** In the unit's own cgroup and as its user, as a request handler of it would ask. */
const unitUser = async (machine: Machine, unit: string) =>
  (await machine.must(`ps -o user= -p $(systemctl show -p MainPID --value ${unit})`)).trim();

/** Words that systemd, a shell or YAML might take for their own. */
const CHECK = ['/usr/local/bin/check', 'a b', '%n%%', '$HOME', '$' + '{HOME}', '"q\'\\', ';', '-x', '*', 'é'];
/** Writes "success" wherever it can, so that a result which the command could write itself would be found out. */
const CHECK_TEXT = `#!/bin/bash
mkdir -p -m 777 "$TMPDIR/check" && cd "$TMPDIR/check" || exit 3
for fd in /proc/$$/fd/*; do (eval "echo success exited 0 >&\${fd##*/}") 2>/dev/null; done
id -un > user.$$ && mv -f user.$$ user
printf '%s\\n' "$@" > words.$$ && mv -f words.$$ words
{
  curl -s -o /dev/null -w '%{http_code}\\n' -m 1 http://127.0.0.1:9080/
  (exec 3<>/dev/tcp/127.0.0.1/9080) && echo tcp
  pgrep -u "$(id -u)" >/dev/null && echo processes
  getent hosts localhost >/dev/null && echo names
  file=$(mktemp) && cat >"$file" <<<temporary && cat "$file" && rm "$file"
  touch /var/lib/check/written /tmp/written 2>/dev/null || echo 'nothing else is written'
  unshare -r true 2>/dev/null || echo 'no namespaces'
} >work.$$ 2>&1; mv -f work.$$ work
if [ -e /var/lib/check/hang ]; then sleep 987 & sleep 987; fi
[ -e /var/lib/check/ok ] || exit 7
`;

/** reviews with a probe that runs this. */
const probedBy = (command: readonly string[]) => `
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: reviews, namespace: default}
spec:
  metadata: {labels: {app: reviews}}
  template: {serviceAccount: reviews, labels: {app: reviews}, ports: {http: 9080}}
  probe: {periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 1, exec: {command: ${JSON.stringify(command)}}}
`;

/** Writes agent.yaml's workloads, reviews with these execProbes, and has the agent take them up. */
async function list(machine: Machine, execProbes: readonly (readonly string[])[]): Promise<void> {
  const workloads = [
    { group: 'default/ratings', unit: 'ratings.service' },
    { group: 'default/reviews', unit: 'reviews.service', execProbes },
  ];
  await eventually('it runs', 10_000, () => isActive(machine, 'mesh-agent'));
  await setWorkloads(machine, [RATINGS]);
  machine.write('/root/workloads', `workloads: ${JSON.stringify(workloads)}\n`);
  await machine.must(
    "sed -i -e '/^workloads:/ {r /root/workloads' -e 'd}' /etc/mesh/agent.yaml && systemctl reload mesh-agent",
  );
}

/** reviews answers a's client so. */
const untilServed = (what: string, machine: Machine, status: number) =>
  eventually(what, 20_000, async () => (await get(machine, 'client', 'http://reviews:9080/')).status === status);

const probeFiles = async (machine: Machine) =>
  (await machine.must("find /etc/systemd/system /run -maxdepth 1 -name 'mesh-probe-*'")).split('\n').filter(Boolean);

type Row = (t: Test, mesh: SmallMesh) => Promise<void>;

const ROWS: readonly (readonly [string, Row])[] = [
  [
    'a unit that started before the mesh: named as older than the rules; the plan shows the drop-in, the agent’s start installs it',
    async (t, { hosts: [a, b] }) => {
      t.not((await b!.exec(`test -e ${DROP_IN}`)).code, 0, 'a join alone writes no drop-in');
      t.match(
        (await b!.exec('mesh-agent redirect plan')).out,
        /^\+\+\+ .*reviews\.service\.d\/50-mesh\.conf\n.*\n\+\[Unit\]\n\+After=mesh-agent\.service/m,
      );
      await b!.must('systemctl enable --now mesh-agent');
      await a!.must('systemctl enable --now mesh-agent');
      await eventually('the drop-in is there', 5000, async () => (await b!.exec(`test -e ${DROP_IN}`)).code === 0);
      t.match(
        await b!.must('systemctl show -p After --value reviews ratings'),
        /mesh-agent\.service[\s\S]*mesh-agent\.service/,
      );
      t.notMatch(await b!.must('systemctl show -p Wants -p Requires --value reviews'), /mesh/);
      const pid = (await b!.must('systemctl show -p MainPID --value reviews')).trim();
      await eventually('it is named', 10_000, async () =>
        JSON.stringify(await status(b!)).includes(`process ${pid} (`),
      );
      await b!.must('systemctl restart reviews ratings');
      await eventually(
        'restarted, it is no more',
        30_000,
        async () => !/older than/.test(JSON.stringify(await status(b!))),
      );
    },
  ],
  [
    'two services on one host under two identities, by the static User= of their units',
    async (t, { hosts: [a, b] }) => {
      for (const [name, port] of [
        ['reviews', 9080],
        ['ratings', 9081],
      ] as const)
        await untilSeenAs(`${name} is served`, a!, 'client', `http://${name}:${port}/`, identity('client'));
      t.equal(await seenAs(b!, 'reviews', 'http://ratings:9081/'), identity('reviews'), 'ratings sees reviews');
      t.equal(await seenAs(b!, 'ratings', 'http://reviews:9080/'), identity('ratings'), 'reviews sees ratings');
    },
  ],
  [
    'a policy for each: in plaintext the STRICT one is refused, the other served',
    async (t, { controller, hosts: [, b] }) => {
      t.equal((await get(controller, undefined, `http://${b!.address}:9080/`)).status, 0, 'reviews is STRICT');
      t.equal((await get(controller, undefined, `http://${b!.address}:9081/`)).status, 200, 'ratings is PERMISSIVE');
      t.equal((await get(b!, 'stranger', 'http://127.0.0.1:9080/')).status, 0, 'nor over loopback by a stranger');
      t.equal((await get(b!, 'stranger', 'http://127.0.0.1:9081/')).status, 200);
    },
  ],
  [
    'the unit restarts: still captured, in and out',
    async (t, { controller, hosts: [a, b] }) => {
      for (const how of ['systemctl restart reviews', 'kill -KILL $(systemctl show -p MainPID --value reviews)']) {
        await b!.must(how);
        await untilSeenAs(how, a!, 'client', 'http://reviews:9080/', identity('client'));
        t.equal(await seenAs(b!, 'reviews', 'http://ratings:9081/'), identity('reviews'), 'out');
        t.equal((await get(controller, undefined, `http://${b!.address}:9080/`)).status, 0, 'in');
      }
    },
  ],
  [
    'a drop-in gives the unit another user: after its restart it is that user that is captured',
    async (t, { hosts: [a, b] }) => {
      await b!.must('useradd --system other');
      b!.write('/etc/systemd/system/ratings.service.d/user.conf', '[Service]\nUser=other\n');
      await b!.must('systemctl daemon-reload && systemctl restart ratings');
      t.equal(await unitUser(b!, 'ratings'), 'other');
      await untilSeenAs('it calls by its identity', b!, 'other', 'http://reviews:9080/', identity('ratings'), 5000);
      await untilSeenAs('it is served', a!, 'client', 'http://ratings:9081/', identity('client'));
      t.equal(await seenAs(b!, 'ratings', 'http://reviews:9080/'), undefined, 'the former user is nobody');
      await b!.must(
        'rm /etc/systemd/system/ratings.service.d/user.conf && systemctl daemon-reload && systemctl restart ratings',
      );
      await untilSeenAs('and back', b!, 'ratings', 'http://reviews:9080/', identity('ratings'), 5000);
    },
  ],
  [
    'DynamicUser= is refused with the reason, the other unit is served all the same',
    async (t, { hosts: [a, b] }) => {
      b!.write('/etc/systemd/system/ratings.service.d/dynamic.conf', '[Service]\nDynamicUser=yes\n');
      await b!.must('systemctl daemon-reload && systemctl restart ratings');
      await eventually('it is said', 10_000, async () =>
        /ratings\.service: the unit has DynamicUser=.*give it a static User=/.test(JSON.stringify(await status(b!))),
      );
      await untilSeenAs('reviews is served', a!, 'client', 'http://reviews:9080/', identity('client'));
      await b!.must(
        'rm /etc/systemd/system/ratings.service.d/dynamic.conf && systemctl daemon-reload && systemctl restart ratings',
      );
      await untilSeenAs('mended', a!, 'client', 'http://ratings:9081/', identity('client'));
      t.pass();
    },
  ],
  [
    'an exec probe: systemd runs what agent.yaml lists, as the unit’s user, and its status decides',
    async (t, { hosts: [a, b], meshctl }) => {
      const untilSaid = (what: RegExp) =>
        eventually(`status says ${what}`, 20_000, async () => what.test((await status(b!)).problems?.join('\n') ?? ''));
      const left = async (file: string) => (await b!.exec(`cat /dev/shm/check/${file}`)).out;
      b!.write('/usr/local/bin/check', CHECK_TEXT, 0o755);
      await b!.must('mkdir -m 777 /var/lib/check && touch /var/lib/check/ok');
      await list(b!, [CHECK]);
      await eventually('two units and a socket', 10_000, async () => (await probeFiles(b!)).length === 3);
      await meshctl('apply -f -', probedBy(CHECK));
      await eventually('it was run', 20_000, async () => (await left('words')) !== '');
      await untilServed('healthy, so it serves', a!, 200);
      t.equal(await left('words'), `${CHECK.slice(1).join('\n')}\n`, 'word for word');
      t.equal(await left('user'), 'reviews\n');
      const work = '200\ntcp\nprocesses\nnames\ntemporary\nnothing else is written\nno namespaces\n';
      await eventually('ordinary work is done in its sandbox', 10_000, async () => (await left('work')) === work).catch(
        async (error: unknown) => t.fail(`${error}: ${await left('work')}`),
      );

      const socket = (await probeFiles(b!)).find((path) => path.endsWith('.sock'));
      for (const user of ['stranger', 'reviews', 'mesh-proxy'])
        t.equal(
          (await b!.exec(`curl -s -m 2 --unix-socket ${socket} http://x/`, { user })).code,
          7,
          `${user} may not ask`,
        );

      await b!.must('rm /var/lib/check/ok');
      await untilServed('it leaves load balancing', a!, 503);
      await untilSaid(/default\/reviews: probe failing: exec \["\/usr\/local\/bin\/check", .*: exit status 7/);
      await b!.must('touch /var/lib/check/ok');
      await untilServed('and comes back', a!, 200);
      const metrics = await b!.must('curl -s http://127.0.0.1:15020/metrics');
      const [sum, count] = ['sum', 'count'].map((what) =>
        Number(
          new RegExp(`^mesh_agent_probe_duration_seconds_${what}{group="default/reviews"} (.*)`, 'm').exec(
            metrics,
          )?.[1],
        ),
      );
      t.ok(count! > 0, `a probe took ${Math.round((sum! / count!) * 1000)} ms on average of ${count}`);

      await b!.must('touch /var/lib/check/hang');
      await untilSaid(/probe failing: exec .*: no answer within 2 s/);
      await b!.must('rm /var/lib/check/hang');
      await untilServed('it does not hang any more', a!, 200);
      t.not((await b!.exec('pgrep -x -u reviews sleep')).code, 0, 'what hung is gone, with its children');

      await b!.must('useradd --system else');
      b!.write('/etc/systemd/system/reviews.service.d/user.conf', '[Service]\nUser=else\n');
      await b!.must('systemctl daemon-reload && systemctl restart reviews');
      await eventually('run as the unit’s new user', 20_000, async () => (await left('user')) === 'else\n');
      await untilServed('it serves', a!, 200);
      await b!.must(
        'rm /etc/systemd/system/reviews.service.d/user.conf && systemctl daemon-reload && systemctl restart reviews',
      );
      await eventually('and back', 20_000, async () => (await left('user')) === 'reviews\n');
      await untilServed('it serves', a!, 200);
      await eventually('units of one user', 10_000, async () => (await probeFiles(b!)).length === 3);

      const asked = (await probeFiles(b!)).find((path) => path.endsWith('.sock'));
      const unit = asked?.replace(/.*\/(.*)\.sock$/, '$1.socket');
      const often = `for i in $(seq 60); do curl -s -m 1 --unix-socket ${asked} http://x/; done; true`;
      await b!.exec(often, { user: 'mesh-agent' });
      await eventually('a socket that is asked too often fails', 10_000, async () => {
        return (await b!.exec(`systemctl is-failed ${unit}`)).out.trim() === 'failed';
      });
      await untilServed('it cannot be asked', a!, 503);
      await b!.must('systemctl start mesh-order');
      await untilServed('mesh-order has it listen again', a!, 200).catch(async (error: unknown) => {
        t.comment((await b!.exec(`systemctl status --no-pager -l ${unit} mesh-order; ls -l ${asked}`)).out);
        throw error;
      });

      await meshctl('apply -f -', probedBy(['/usr/bin/touch', '/var/lib/check/unlisted']));
      await untilSaid(/add \["\/usr\/bin\/touch", .*\] to workloads\[\]\.execProbes .* of host b/);
      await untilServed('a command that is not listed is no success', a!, 503);
      t.not((await b!.exec('test -e /var/lib/check/unlisted')).code, 0, 'nor is it run');

      const { out } = await b!.exec("journalctl -q -o cat -u 'mesh-probe-*@*'");
      t.equal(out, '', 'no run leaves a line in the journal');
      t.equal(await b!.must("systemctl list-units --all --no-legend --plain 'mesh-probe-*@*'"), '', 'nor a unit');
      await meshctl('apply -f -', probedBy(CHECK));
      await untilServed('it serves', a!, 200);
    },
  ],
  [
    'reboot: the units start after the mesh is ready, with the controller switched off',
    async (t, { controller, hosts: [a, b] }) => {
      await b!.must('systemctl enable reviews ratings 2>/dev/null');
      await controller.must('systemctl stop mesh-controller');
      await b!.reboot();
      await untilSeenAs('it serves', a!, 'client', 'http://reviews:9080/', identity('client'), 30_000);
      await controller.must('systemctl start mesh-controller');
      const at = async (unit: string, what: string) =>
        Number(await b!.must(`systemctl show -p ${what} --value ${unit}`));
      const ready = await at('mesh-agent', 'ActiveEnterTimestampMonotonic');
      for (const unit of ['reviews', 'ratings']) {
        const started = await at(unit, 'ExecMainStartTimestampMonotonic');
        t.ok(
          ready > 0 && started >= ready,
          `${unit} started ${Math.round((started - ready) / 1000)} ms after the mesh was ready`,
        );
      }
      t.notMatch(JSON.stringify(await status(b!)), /older than the rules/);
    },
  ],
  [
    'an exec probe that was listed is at work after the reboot; no longer listed, all of it is gone',
    async (t, { hosts: [a, b], meshctl }) => {
      const listening = (await probeFiles(b!)).find((path) => path.endsWith('.sock'));
      t.ok(listening, 'its socket listens');
      await list(b!, []);
      await eventually('no longer listed, all of it is gone', 10_000, async () => (await probeFiles(b!)).length === 0);
      t.notMatch(await b!.must("systemctl list-units --all --no-legend --plain 'mesh-probe-*'"), /./);
      await meshctl('apply -f -', group('reviews', 9080));
      await untilServed('without a probe it serves', a!, 200);
    },
  ],
  [
    'a mesh that cannot start keeps no workload down, and starting a workload starts no mesh',
    async (t, { hosts: [, b] }) => {
      await b!.must('systemctl stop mesh-agent reviews');
      await untilStopped(b!);
      await b!.must('systemctl start reviews');
      t.equal(await isActive(b!, 'mesh-agent'), false, 'the mesh stays off');
      await b!.must(
        "systemctl stop reviews && cp -p /etc/mesh/agent.yaml /root/good && echo 'wrong: 1' >> /etc/mesh/agent.yaml",
      );
      await b!.exec('systemctl start mesh-agent reviews', { timeoutMs: 30_000 });
      t.equal(await isActive(b!, 'reviews'), true, 'the workload runs');
      t.equal(await isActive(b!, 'mesh-agent'), false);
      await b!.exec('systemctl start mesh-dns-off');
      t.notMatch(await rulesOf(b!), /MESH_/, 'what acts on a failed agent writes no rule where none stood');
      await b!.must('mv /root/good /etc/mesh/agent.yaml; systemctl start mesh-dns-off');
      t.notMatch(await rulesOf(b!), /MESH_/, 'nor with a good agent.yaml');
      await b!.must('systemctl reset-failed "mesh*"; systemctl start mesh-agent');
    },
  ],
  [
    'unbound: the drop-in goes, what is not ours stays, also a file of that name',
    async (t, { hosts: [, b] }) => {
      const foreign = '/etc/systemd/system/ratings.service.d/50-mesh.conf';
      await b!.must(
        `rm ${foreign} && printf '[Service]\\nNice=3\\n' > ${foreign} && mkdir -p ${DROP_IN.replace(/\/[^/]*$/, '')} && printf '[Service]\\nNice=4\\n' > ${DROP_IN.replace('50-mesh', '60-own')}`,
      );
      await eventually('it runs', 10_000, () => isActive(b!, 'mesh-agent'));
      await setWorkloads(b!, [RATINGS]);
      await b!.must('systemctl reload mesh-agent');
      await eventually('the drop-in is gone', 10_000, async () => (await b!.exec(`test -e ${DROP_IN}`)).code !== 0);
      t.equal(await b!.must(`cat ${foreign}`), '[Service]\nNice=3\n', 'somebody else’s file of that name');
      await b!.must(`test -e ${DROP_IN.replace('50-mesh', '60-own')}`);
      await eventually(
        'systemd knows',
        5000,
        async () => !/mesh-agent/.test(await b!.must('systemctl show -p After --value reviews')),
      );
      t.match(
        await journal(b!, 'mesh-order'),
        /ratings\.service is not ordered after the mesh: .*50-mesh\.conf is not ours/,
      );
      await b!.must(`rm ${foreign}`);
      // a reload that meets a start is one with it (systemd), and the agent may have read the file already
      await eventually('it runs', 10_000, () => isActive(b!, 'mesh-agent'));
      await setWorkloads(b!, [RATINGS, REVIEWS]);
      await b!.must('systemctl reload mesh-agent');
      await eventually(
        'both are there',
        10_000,
        async () => (await b!.exec(`test -e ${foreign} && test -e ${DROP_IN}`)).code === 0,
      );
    },
  ],
  [
    'stop keeps the drop-ins and the files of exec probes, remove takes them',
    async (t, { hosts: [, b] }) => {
      await list(b!, [CHECK]);
      await eventually('its socket listens', 10_000, async () => (await probeFiles(b!)).length === 3);
      await eventually('it runs', 10_000, () => isActive(b!, 'mesh-agent'));
      await b!.must('systemctl stop mesh-agent');
      await untilStopped(b!);
      await b!.must(`test -e ${DROP_IN}`);
      t.strictSame(
        (await probeFiles(b!)).map((path) => path.replace(/.*\./, '')).sort(),
        ['service', 'socket'],
        'nothing listens for exec probes any more, its files stay',
      );
      await b!.must('systemctl start mesh-agent');
      await eventually('it listens again', 10_000, async () => (await probeFiles(b!)).length === 3);
      await b!.must(apt('remove mesh-agent'));
      t.strictSame(await probeFiles(b!), []);
      t.equal((await b!.must("find /etc/systemd/system -name '50-mesh.conf' -o -name 'ratings.service.d'")).trim(), '');
      t.notMatch(await b!.must('systemctl show -p After --value reviews'), /mesh-agent/);
      t.equal((await get(b!, 'stranger', 'http://127.0.0.1:9080/')).status, 200, 'the workload runs on, in plaintext');
    },
  ],
];

tap.test('workloads as units of systemd', async (t) => {
  const mesh = await createSmallMesh('units', { hosts: 2, objects: OBJECTS });
  t.teardown(() => mesh.world.down());
  const [a, b] = mesh.hosts as [Machine, Machine];
  await a.must('useradd --system client');
  await b.must(`useradd --system reviews; useradd --system ratings; useradd --system stranger`);
  b.write('/etc/systemd/system/reviews.service', sampleUnit('reviews', 'reviews', 9080));
  b.write('/etc/systemd/system/ratings.service', sampleUnit('ratings', 'ratings', 9081));
  await b.must('systemctl daemon-reload && systemctl start reviews ratings');
  await join_(mesh, a, [CLIENT]);
  await join_(mesh, b, [REVIEWS, RATINGS]);
  for (const [name, row] of ROWS)
    await t.test(name, { timeout: 90_000 }, (t) => explained(t, [a, b], () => row(t, mesh)));
});

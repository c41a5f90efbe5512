// Names on booted machines: mesh names resolve while the agent lives, all others always, by each way that programs ask. a has systemd-resolved
// with nss-resolve, b a plain resolv.conf; both run one workload of users `client` and, on b, reviews.
import tap, { type Test } from 'tap';
import { eventually, type Machine } from '../../scripts/lib/package/machine.ts';
import type { Asked } from './dns-client.ts';
import { NODE, REVIEWS, rulesOf } from './mesh.ts';
import {
  callerOf,
  createSmallMesh,
  explained,
  get,
  installExtras,
  join_,
  type SmallMesh,
  sampleUnit,
  untilStopped,
} from './small-mesh.ts';

tap.setTimeout(600_000);

const OBJECTS = `${REVIEWS}---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop, namespace: default}
spec:
  hosts: [shop.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.213.0.254}]
`;
const FULL = 'reviews.default.svc.cluster.local';
const VIP = /^240\.240\.\d+\.\d+$/;
const OUTSIDE = '10.213.0.254';
const UPSTREAM = '10.213.0.254';

/** First IPv4 address by libc, as the workload's user unless told otherwise. */
async function byLibc(
  machine: Machine,
  name: string,
  user: string | undefined = 'client',
  options = '',
): Promise<string> {
  const ran = await machine.exec(`RES_OPTIONS='${options}' getent ahostsv4 ${name}`, { user });
  return ran.out.split(' ')[0] ?? '';
}

async function bySocket(
  machine: Machine,
  how: string,
  name: string,
  user: string | undefined = 'client',
): Promise<string> {
  const ran = await machine.exec(`${NODE} --no-warnings /srv/share/dns-client.ts ask ${how} ${name}`, { user });
  return ran.out.trim();
}

/** resolvectl's own question. */
async function byBus(machine: Machine, name: string): Promise<string> {
  const ran = await machine.exec(`resolvectl query --legend=no -4 ${name}`);
  return /: (\d+\.\d+\.\d+\.\d+)/.exec(ran.out)?.[1] ?? '';
}

const mainPid = async (machine: Machine) => (await machine.must('systemctl show -p MainPID --value mesh-agent')).trim();

async function killAgent(machine: Machine): Promise<void> {
  const before = await mainPid(machine);
  await machine.must(`kill -KILL ${before}`);
  await eventually('another agent is ready', 20_000, async () => {
    const pid = await mainPid(machine);
    return pid !== '0' && pid !== before && (await machine.exec('systemctl is-active -q mesh-agent')).code === 0;
  });
}

/** No unit of that name can be started any more: not even its own OnFailure= is known then. */
async function failForGood(machine: Machine): Promise<void> {
  await machine.must('systemctl mask --runtime mesh-agent');
  await machine.must(`kill -KILL ${await mainPid(machine)}`);
}

async function mend(machine: Machine): Promise<void> {
  await machine.must('systemctl unmask --runtime mesh-agent');
  await machine.exec("systemctl reset-failed 'mesh*'");
  await machine.must('systemctl start mesh-agent');
}

/** The client with one lasting socket, and what it has seen. */
function startLasting(machine: Machine, names: readonly string[]) {
  const child = machine.start(
    `exec ${NODE} --no-warnings /srv/share/dns-client.ts lasting ${UPSTREAM} ${names.join(' ')}`,
    'client',
  );
  const seen: Asked[] = [];
  let rest = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) seen.push(JSON.parse(line) as Asked);
  });
  /** The latest of each name answers so, several times in a row. */
  const until = (what: string, withinMs: number, expected: Readonly<Record<string, RegExp>>) =>
    eventually(what, withinMs, async () =>
      Object.entries(expected).every(([name, got]) => {
        const last = seen.filter((asked) => asked.name === name).slice(-5);
        return last.length === 5 && last.every((asked) => got.test(asked.got));
      }),
    );
  return { seen, until, end: () => child.stdin!.end() };
}

async function plain(t: Test, { hosts }: SmallMesh): Promise<void> {
  const b = hosts[1]!;
  const rules = await rulesOf(b);
  const lasting = startLasting(b, [FULL, 'outside.example']);
  t.teardown(() => lasting.end());
  await lasting.until('before the mesh only other names are known', 10_000, {
    [FULL]: /rcode 3/,
    'outside.example': /^10/,
  });
  await b.must('systemctl start mesh-agent');
  const both = { [FULL]: VIP, 'outside.example': /^10\.213/ };
  await lasting.until('the socket of before the mesh is led to the agent', 10_000, both);
  for (const name of ['reviews', 'reviews.default', FULL, 'shop.example'])
    for (const options of ['', 'use-vc']) t.match(await byLibc(b, name, 'client', options), VIP, `${name} ${options}`);
  t.equal(await byLibc(b, 'outside.example', 'client', 'use-vc'), OUTSIDE, 'another name by TCP');
  t.match(await bySocket(b, `tcp ${UPSTREAM}`, FULL), VIP, 'a socket of its own, TCP');
  t.equal(await byLibc(b, 'shop.example', 'root'), OUTSIDE, 'other users ask as ever');

  const killed = lasting.seen.length;
  await killAgent(b);
  await lasting.until('after kill -9', 5000, both);
  await b.must('systemctl restart mesh-agent');
  await lasting.until('after a restart', 5000, both);
  const silent = lasting.seen.slice(killed).filter(({ got }) => got === 'silence');
  t.ok(silent.length <= 3, `${silent.length} of ${lasting.seen.length - killed} went unanswered: what was in hand`);

  await failForGood(b);
  await lasting.until('with the agent failed for good, others resolve', 15_000, {
    'outside.example': /^10\.213/,
    [FULL]: /rcode 3/,
  });
  t.equal(await byLibc(b, 'outside.example'), OUTSIDE);
  t.match(await rulesOf(b), /MESH_OUTPUT/, 'the other rules stand');
  await mend(b);
  await lasting.until('mended', 15_000, both);
  await b.must('systemctl stop mesh-agent');
  await untilStopped(b);
  await lasting.until('after stop', 10_000, { 'outside.example': /^10\.213/, [FULL]: /rcode 3/ });
  t.equal(await rulesOf(b), rules, 'the rules are as before');
  await b.must('systemctl start mesh-agent');
  await lasting.until('started again', 10_000, both);
}

async function withResolved(t: Test, { hosts }: SmallMesh): Promise<void> {
  const a = hosts[0]!;
  await installExtras(a, 'systemd-resolved libnss-resolve');
  a.write('/etc/systemd/resolved.conf.d/up.conf', `[Resolve]\nDNS=${UPSTREAM}\nLLMNR=no\n`);
  // Debian 12: resolved that is installed on a running machine is not on the bus before
  await a.must('systemctl restart systemd-resolved');
  const links = await a.must('ip -o link; ip -o address; ip route; ip -6 route');
  t.match(await a.must('cat /etc/resolv.conf'), /127\.0\.0\.53/);
  t.equal(await byLibc(a, 'outside.example'), OUTSIDE);
  t.equal(await byLibc(a, 'shop.example'), OUTSIDE, 'before the mesh: the real one');
  await a.must('systemctl start mesh-agent');
  await eventually('resolved asks the agent', 5000, async () => VIP.test(await byLibc(a, FULL)));
  await t.test('each way to ask', async (t) => {
    for (const name of ['reviews', 'reviews.default', FULL, 'shop.example'])
      for (const user of ['client', 'root']) t.match(await byLibc(a, name, user), VIP, `getent, ${user}: ${name}`);
    t.match(await byBus(a, FULL), VIP, 'resolvectl query');
    for (const protocol of ['udp', 'tcp']) {
      for (const user of ['client', 'root'])
        t.match(await bySocket(a, `${protocol} 127.0.0.53`, FULL, user), VIP, `the stub, ${protocol}, ${user}`);
      t.equal(await bySocket(a, `${protocol} 127.0.0.53`, 'outside.example'), OUTSIDE);
    }
    t.equal(await byLibc(a, 'outside.example'), OUTSIDE, 'getent: another name');
    t.equal(await byBus(a, 'outside.example'), OUTSIDE);
    t.equal(await byLibc(a, 'www.shop.example'), OUTSIDE, 'below a name of the mesh: no loop, its real address');
    t.equal(await byLibc(a, 'nothing.shop.example'), '');
    t.equal(await byLibc(a, 'nothing.default.svc.cluster.local'), '');
  });
  await eventually('a call by that name is the mesh’s', 10_000, async () => {
    const { reply } = await get(a, 'client', 'http://reviews:9080/');
    return callerOf(reply) === 'spiffe://mesh.test/ns/default/sa/client';
  });

  await Promise.all([
    killAgent(a),
    ...Array.from({ length: 8 }, async (_, i) => t.match(await byLibc(a, FULL), VIP, `asked while it was dead, ${i}`)),
  ]);
  await a.must('systemctl restart systemd-resolved');
  await eventually('resolved was restarted', 5000, async () => VIP.test(await byLibc(a, 'reviews')));
  await a.must('ip link delete hostmesh');
  await eventually('the link was deleted', 6000, async () => VIP.test(await byLibc(a, 'reviews')));

  await failForGood(a);
  await eventually('the agent failed for good', 15_000, async () => (await byLibc(a, 'shop.example')) === OUTSIDE);
  t.equal(await byLibc(a, 'outside.example'), OUTSIDE);
  t.equal(await byBus(a, 'outside.example'), OUTSIDE);
  t.equal(await bySocket(a, 'udp 127.0.0.53', 'outside.example'), OUTSIDE);
  await mend(a);
  await eventually('mended', 10_000, async () => VIP.test(await byLibc(a, 'reviews')));
  await a.must('systemctl stop mesh-agent');
  await untilStopped(a);
  t.equal(await a.must('ip -o link; ip -o address; ip route; ip -6 route'), links, 'links and addresses as before');
  t.equal(await byLibc(a, 'shop.example'), OUTSIDE);
  t.equal(await byLibc(a, FULL), '');
}

tap.test('names on booted machines', async (t) => {
  const mesh = await createSmallMesh('dns', { hosts: 2, objects: OBJECTS, extras: true });
  t.teardown(() => mesh.world.down());
  const [a, b] = mesh.hosts as [Machine, Machine];
  for (const host of [a, b]) await host.must('useradd --system client');
  await b.must('useradd --system reviews');
  b.write('/etc/systemd/system/reviews.service', sampleUnit('b', 'reviews', 9080));
  await b.must('systemctl daemon-reload && systemctl start reviews');
  await join_(mesh, a, [{ group: 'default/client', by: 'user: client' }]);
  await join_(mesh, b, [
    { group: 'default/client', by: 'user: client' },
    { group: 'default/reviews', by: 'user: reviews' },
  ]);
  for (const [name, row] of [
    ['a plain resolv.conf, and a client with one lasting socket', plain],
    ['systemd-resolved with nss-resolve', withResolved],
  ] as const)
    await t.test(name, (t) => explained(t, [a, b], () => row(t, mesh)));
});

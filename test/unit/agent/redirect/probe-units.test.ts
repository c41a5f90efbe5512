// Units of systemd's that run exec probes: what is written, how words are quoted, what goes, in a folder of a test.
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { probeSocket, probeUnit } from '../../../../agent/host/probe-unit.ts';
import { askForOrder, orderUnits, type Wanted, wantedOf } from '../../../../agent/redirect/order.ts';
import { type ListedCommand, planProbeUnits, quote } from '../../../../agent/redirect/probe-units.ts';
import { MeshError } from '../../../../api/errors.ts';

const CHECK: ListedCommand = { group: 'default/web', uid: 1001, command: ['/usr/local/bin/check', '--fast'] };
const OTHER: ListedCommand = { group: 'default/db', uid: 1002, command: ['/usr/local/bin/check', '--fast'] };
const name = ({ uid, command }: ListedCommand) => probeUnit(uid, command);

/** `order` does what mesh-order does and gives the calls of systemctl; `here`: files. */
function setUp(t: Test, fails?: string) {
  const folder = join(t.testdir({ etc: {} }), 'etc');
  const order = async (commands: readonly ListedCommand[], more: Partial<Wanted> = {}, dryRun = false) => {
    const calls: string[] = [];
    const wanted = { units: [], commands, problems: [], agentUser: 'mesh-agent', ...more };
    const text = await orderUnits(
      async (file, args) => {
        // asked of it first: `no` unless a socket has failed
        if (args[0] === 'is-failed') return { code: Number(fails !== 'socket'), stdout: '', stderr: '' };
        calls.push([file, ...args].join(' '));
        return { code: args[0] === fails ? 1 : 0, stdout: '', stderr: 'it did not\n' };
      },
      wanted,
      dryRun,
      folder,
    );
    return { calls, text };
  };
  return {
    folder,
    order,
    here: () => readdirSync(folder).sort(),
    read: (f: string) => readFileSync(join(folder, f), 'utf8'),
  };
}

t.test('each word is quoted so that systemd reads back what agent.yaml says', async (t) => {
  for (const [word, quoted] of [
    ['/usr/local/bin/check', '"/usr/local/bin/check"'],
    ['', '""'],
    ['a b', '"a b"'],
    ['%n %% %', '"%%n %%%% %%"'],
    ['$HOME', '"$$HOME"'],
    ['{$HOME}$$', '"{$$HOME}$$$$"'],
    ['say "hi"', '"say \\"hi\\""'],
    ["it's", '"it\'s"'],
    ['back\\slash\\n\\', '"back\\\\slash\\\\n\\\\"'],
    [';', '";"'],
    ['-x', '"-x"'],
    ['@+!:', '"@+!:"'],
    ['héllo 🚀', '"héllo 🚀"'],
    ['# no comment', '"# no comment"'],
  ] as const)
    t.equal(quote(word), quoted, word);
});

t.test(
  'a socket for the agent alone, a service as the workload’s user; another user or word is another unit',
  async (t) => {
    const { folder, order, here, read } = setUp(t);
    const planned = await order([CHECK, OTHER], {}, true);
    t.strictSame([planned.calls, here()], [[], []], 'a plan does nothing');
    t.match(planned.text, `+++ ${folder}/${name(CHECK)}.socket\n+# Hostmesh: `);
    const done = await order([CHECK, OTHER]);
    t.equal(done.text, planned.text);
    t.strictSame(done.calls, [
      'systemctl daemon-reload',
      `systemctl start ${name(CHECK)}.socket ${name(OTHER)}.socket`,
    ]);
    t.strictSame(here(), [CHECK, OTHER].flatMap((one) => [`${name(one)}.socket`, `${name(one)}@.service`]).sort());
    const socket = read(`${name(CHECK)}.socket`).split('\n');
    for (const line of [
      `ListenStream=${probeSocket(name(CHECK))}`,
      'SocketUser=mesh-agent',
      'SocketMode=0600',
      'Accept=yes',
      'RemoveOnStop=yes',
      'PartOf=mesh-agent.service',
      'TriggerLimitIntervalSec=10s',
      'TriggerLimitBurst=30',
    ])
      t.ok(socket.includes(line), line);
    const service = read(`${name(CHECK)}@.service`).split('\n');
    for (const line of [
      'User=1001',
      'StandardInput=socket',
      'StandardOutput=null',
      'StandardError=null',
      'NoNewPrivileges=yes',
      'ProtectSystem=strict',
      'RestrictNamespaces=yes',
      'LockPersonality=yes',
      'RestrictSUIDSGID=yes',
      'ProtectKernelTunables=yes',
      'ProtectKernelModules=yes',
      'ProtectKernelLogs=yes',
      'ProtectControlGroups=yes',
      'SystemCallArchitectures=native',
      'SystemCallFilter=@system-service',
      'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
    ])
      t.ok(service.includes(line), line);
    t.match(
      service.find((line) => line.startsWith('ExecStart=')),
      / "mesh-probe" "\/usr\/local\/bin\/check" "--fast"$/,
    );
    t.equal(service.filter((line) => line.startsWith('ExecStart=')).length, 1);
    const names = new Set([
      name(CHECK),
      name(OTHER),
      probeUnit(1001, ['/usr/local/bin/check']),
      probeUnit(1001, ['/usr/local/bin/check', '-', '-fast']),
      probeUnit(100, ['1', '/usr/local/bin/check', '--fast']),
    ]);
    t.equal(names.size, 5);
  },
);

t.test(
  'again: nothing but a start; another agent’s user: restarted; not listed any more: stopped, then gone',
  async (t) => {
    const { order, here } = setUp(t);
    await order([CHECK, OTHER]);
    const again = await order([CHECK, OTHER]);
    t.strictSame(again, { calls: [`systemctl start ${name(CHECK)}.socket ${name(OTHER)}.socket`], text: '' });
    const changed = await order([CHECK, OTHER], { agentUser: 'other' });
    t.match(changed.calls, [/daemon-reload/, /^systemctl restart .*socket .*socket$/, /^systemctl start /]);
    const less = await order([CHECK]);
    t.match(less.calls, [`systemctl stop ${name(OTHER)}.socket`, 'systemctl daemon-reload', /restart/, /start/]);
    t.strictSame(here(), [`${name(CHECK)}.socket`, `${name(CHECK)}@.service`]);
    t.match((await order([])).calls, [`systemctl stop ${name(CHECK)}.socket`, 'systemctl daemon-reload']);
    t.strictSame(here(), []);
    t.strictSame((await order([])).calls, []);
  },
);

t.test('what is not ours is not touched, and said', async (t) => {
  const { folder, order, here, read } = setUp(t);
  writeFileSync(join(folder, `${name(CHECK)}@.service`), '[Service]\nExecStart=/bin/true\n');
  writeFileSync(join(folder, 'mesh-probe-0123456789abcdef.socket'), '[Socket]\n');
  writeFileSync(join(folder, 'mesh-probe-own.socket'), '# Hostmesh: \n');
  mkdirSync(join(folder, 'mesh-probe-0123456789abcde0.socket'));
  symlinkSync('/dev/null', join(folder, `${name(OTHER)}.socket`));
  const before = here();
  const { calls, text } = await order([CHECK, OTHER]);
  t.strictSame(calls, []);
  t.match(
    text,
    /^# default\/web: an exec probe cannot be run: .*@\.service is not ours\n# default\/db: .*socket is not ours\n$/,
  );
  t.strictSame(here(), before);
  t.equal(read(`${name(CHECK)}@.service`), '[Service]\nExecStart=/bin/true\n');
});

t.test(
  'a command listed twice for one user is one unit; what systemctl refuses is an error with its words',
  async (t) => {
    const { folder } = setUp(t);
    t.equal(
      (await planProbeUnits([CHECK, { ...CHECK, group: 'default/again' }], 'mesh-agent', folder)).write.length,
      2,
    );
    const { order } = setUp(t, 'start');
    await t.rejects(order([CHECK]), { code: 'REDIRECT_ORDER', message: 'systemctl start: it did not' });
  },
);

t.test('commands run as no user but a workload’s, whatever name leads to it', async (t) => {
  const uids: Record<string, number> = {
    web: 1001,
    toor: 0,
    'mesh-agent': 990,
    'mesh-proxy': 991,
    alias: 990,
    first: 61184,
    last: 65519,
    before: 61183,
    after: 65520,
  };
  const users = {
    async uid(name: string) {
      const uid = uids[name];
      if (uid === undefined) throw new MeshError('USER_UNKNOWN', `no such user: ${name}`);
      return uid;
    },
  };
  const of = (user: string, execProbes = [['/c']]) => ({ group: `default/${user}`, user, execProbes });
  const wanted = (...workloads: ReturnType<typeof of>[]) =>
    wantedOf({ workloads, proxyUser: 'mesh-proxy', agentUser: 'mesh-agent' }, users);
  t.strictSame((await wanted(of('web'))).commands, [{ group: 'default/web', uid: 1001, command: ['/c'] }]);
  for (const [user, problem] of [
    ['toor', /^default\/toor: execProbes are not run: toor cannot run a workload$/],
    ['alias', /cannot run a workload/],
    ['mesh-proxy', /cannot run a workload/],
    ['first', /: first is from systemd's dynamic range/],
    ['last', /: last is from systemd's dynamic range/],
    ['nobody-here', /is not known/],
  ] as const)
    t.match(await wanted(of('web'), of(user)), { commands: { length: 1 }, problems: [problem] }, user);
  for (const user of ['before', 'after'])
    t.match(await wanted(of(user)), { commands: { length: 1 }, problems: [] }, user);
  t.strictSame(await wanted(of('x.service', [])), {
    units: ['x.service'],
    commands: [],
    problems: [],
    agentUser: 'mesh-agent',
  });
});

t.test('who may not write units asks for it only where there is something to do', async (t) => {
  const { folder, order } = setUp(t);
  const calls: string[] = [];
  const ask = (commands: readonly ListedCommand[]) =>
    askForOrder(
      async (file, args) => {
        calls.push([file, ...args].join(' '));
        return { code: 0, stdout: '', stderr: '' };
      },
      { units: [], commands, problems: [], agentUser: 'mesh-agent' },
      folder,
    );
  await ask([CHECK]);
  t.strictSame(calls, ['systemctl start --no-block mesh-order.service']);
  await order([CHECK]);
  await ask([CHECK]);
  t.equal(calls.length, 1);
  await ask([{ ...CHECK, uid: 1003 }]);
  t.equal(calls.length, 2, 'another user');
});

t.test('a socket that was asked too often counts anew, and listens', async (t) => {
  const { order } = setUp(t, 'socket');
  await order([CHECK]);
  t.strictSame((await order([CHECK])).calls, ['systemctl daemon-reload', `systemctl start ${name(CHECK)}.socket`]);
});

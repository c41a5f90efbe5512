// A host on which something is wrong: one clear line in `systemctl status` that names cause and cure, the network as it was; or service goes on
// where it can. What a machine of systemd-nspawn cannot lack by itself is taken from it: IPv6 by sysctl (the kernel has it, `lo` loses ::1), a
// module by iptables' half of it, the right time by what the agent's own process is told (no machine may set the clock, which is this machine's).
import tap, { type Test } from 'tap';
import { eventually, type Machine } from '../../scripts/lib/package/machine.ts';
import { NODE, rulesOf } from './mesh.ts';
import { createSmallMesh, explained, join_, type SmallMesh, setWorkloads } from './small-mesh.ts';

tap.setTimeout(600_000);

const OBJECTS = `
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: client, namespace: default}
spec:
  metadata: {labels: {app: client}}
  template: {serviceAccount: client, labels: {app: client}}
`;

interface Case {
  readonly wrong: string;
  /** Makes it so, and how it was. */
  readonly make: string;
  readonly undo: string;
  /** What `systemctl status` of the agent and of the rules says; undefined: there is nothing to say. */
  readonly says: RegExp | undefined;
  /** Whether the host serves all the same. */
  readonly serves: boolean;
  /** Then the rules have this too. */
  readonly without?: RegExp;
}

const TOOLS = 'iptables ip6tables iptables-save ip6tables-save iptables-restore ip6tables-restore';
const aside = (files: string) => `mkdir -p /root/aside; for file in ${files}; do mv $file /root/aside/; done`;
const ip6 = TOOLS.split(' ')
  .filter((tool) => tool.startsWith('ip6'))
  .map((tool) => `/usr/sbin/${tool}`);
const FULL = `mount -t tmpfs -o size=2M,mode=2750,uid=$(id -u mesh-agent),gid=$(id -g mesh-proxy) full /var/lib/mesh
  cp -a /root/state/. /var/lib/mesh/; dd if=/dev/zero of=/var/lib/mesh/full 2>/dev/null; test $(df --output=avail /var/lib/mesh | tail -1) = 0`;
const IPV6 = (off: 0 | 1) => `for name in all default lo; do sysctl -qw net.ipv6.conf.$name.disable_ipv6=${off}; done`;
const CLOCK = '/run/systemd/system/mesh-agent.service.d';
const clock = (days: number) =>
  `mkdir -p ${CLOCK}; printf '[Service]\\nEnvironment=NODE_OPTIONS=--import=/usr/local/lib/clock.mjs CLOCK_DAYS=${days}\\n' > ${CLOCK}/time.conf; systemctl daemon-reload`;
const NO_CLOCK = `rm -r ${CLOCK}; systemctl daemon-reload`;
const CLOCK_MJS = `const real = Date, now = real.now.bind(real), off = Number(process.env.CLOCK_DAYS) * 86_400_000;
globalThis.Date = class extends real {
  constructor(...given) { if (given.length > 0) super(...given); else super(now() + off); }
  static now() { return now() + off; }
};
`;
/** Until it holds what it is to hold. */
const squat = (port: number) =>
  `setsid setpriv --reuid nobody --clear-groups ${NODE} -e "require('net').createServer().listen(${port},'127.0.0.1')" >/dev/null 2>&1 & echo $! > /root/pid; until ss -Hltn | grep -q 127.0.0.1:${port}; do sleep 0.1; done`;

const CASES: readonly Case[] = [
  {
    wrong: 'agent.yaml was written for a newer version',
    make: "cp -p /etc/mesh/agent.yaml /root/agent.yaml; echo 'newer: 1' >> /etc/mesh/agent.yaml",
    undo: 'cp -p /root/agent.yaml /etc/mesh/agent.yaml',
    says: /mesh-agent: \/etc\/mesh\/agent\.yaml:\d+:1: unknown key newer; allowed here: /,
    serves: false,
  },
  {
    wrong: 'agent.yaml cannot be read by the agent',
    make: 'chmod 600 /etc/mesh/agent.yaml',
    undo: 'chmod 644 /etc/mesh/agent.yaml',
    says: /mesh-agent: \/etc\/mesh\/agent\.yaml: cannot read it: EACCES/,
    serves: false,
  },
  {
    wrong: 'another user’s program listens on port 15001',
    make: squat(15001),
    undo: 'kill $(cat /root/pid)',
    says: /port 15001 is held by uid 65534, not by the proxy \(uid \d+\): stop that program/,
    serves: false,
  },
  {
    wrong: 'iptables is not installed',
    make: aside(
      TOOLS.split(' ')
        .map((tool) => `/usr/sbin/${tool}`)
        .join(' '),
    ),
    undo: 'mv /root/aside/* /usr/sbin/',
    says: /iptables is not installed \(package iptables\)/,
    serves: false,
  },
  {
    wrong: 'ip6tables alone is missing, while there is IPv6',
    make: aside(ip6.join(' ')),
    undo: 'mv /root/aside/* /usr/sbin/',
    says: /ip6tables-save is not installed \(package iptables\)/,
    serves: false,
  },
  {
    wrong: 'iptables lacks the owner match',
    make: aside('$(find /usr/lib -name libxt_owner.so)'),
    undo: 'mv /root/aside/libxt_owner.so $(dirname $(find /usr/lib -name libxt_multiport.so))/',
    says: /lacks the extension owner: modprobe xt_owner, or install/,
    serves: false,
  },
  {
    wrong: 'another program holds the xtables lock (legacy)',
    make: `for ip in iptables ip6tables; do update-alternatives --set $ip /usr/sbin/$ip-legacy; done >/dev/null
      setsid flock /run/xtables.lock sleep 300 >/dev/null 2>&1 & echo $! > /root/pid; until ! flock -n /run/xtables.lock true; do sleep 0.1; done`,
    undo: `kill -- -$(cat /root/pid); for ip in iptables ip6tables; do update-alternatives --set $ip /usr/sbin/$ip-nft; done >/dev/null`,
    says: /the xtables lock is held by flock \(pid \d+\); waited 5 s; stop that program/,
    serves: false,
  },
  {
    wrong: 'IPv6 is switched off',
    make: IPV6(1),
    undo: IPV6(0),
    says: undefined,
    serves: true,
    without: /inet6/,
  },
  {
    wrong: 'the state folder is read-only',
    make: 'mount --bind /var/lib/mesh /var/lib/mesh && mount -o remount,ro,bind /var/lib/mesh',
    undo: 'umount /var/lib/mesh',
    says: /EROFS: read-only file system/,
    serves: true,
  },
  {
    wrong: 'the state folder is full',
    make: `rm -rf /root/state; cp -a /var/lib/mesh /root/state; ${FULL}`,
    undo: 'umount /var/lib/mesh',
    says: /ENOSPC: no space left on device/,
    serves: true,
  },
  {
    wrong: 'the clock is three days ahead',
    make: clock(3),
    undo: NO_CLOCK,
    says: /config is stale: last timestamp 43\d\d min ago by this host's clock; is the clock right\? Set it/,
    serves: true,
  },
  {
    wrong: 'the clock is two days behind',
    make: clock(-2),
    undo: NO_CLOCK,
    says: /this host's clock is 28\d\d min behind the signed config's; set it, e\.g\. with chrony/,
    serves: true,
  },
];

/** Rules that do something: an empty table that a look with legacy iptables leaves is none. */
async function acting(machine: Machine): Promise<string> {
  return (await rulesOf(machine))
    .split('\n')
    .filter((line) => /^-A|^:\S+ (DROP|-)/.test(line))
    .join('\n');
}

async function judge(t: Test, machine: Machine, before: string, one: Case): Promise<void> {
  const { make, undo, says, serves, without } = one;
  const status = async () =>
    (await machine.exec('systemctl status --no-pager -l -n 40 mesh-agent mesh-redirect-apply')).out;
  const active = async () => (await machine.exec('systemctl is-active mesh-agent')).out.trim();
  // so that the status has no line of an earlier case
  await machine.exec('journalctl --rotate -q && journalctl --vacuum-time=1s -q');
  await machine.must(make);
  try {
    await machine.must('systemctl start --no-block mesh-agent');
    if (says !== undefined) await eventually('the cause is named', 20_000, async () => says.test(await status()));
    if (serves) {
      await eventually('it serves', 20_000, async () => (await active()) === 'active');
      t.match(await acting(machine), /MESH_OUTPUT/, 'the rules stand');
      if (without !== undefined) t.notMatch(await machine.must('ip address; ss -Hltn'), without);
    } else {
      t.not(await active(), 'active', 'not ready');
      if (!/iptables is not/.test(says?.source ?? ''))
        t.equal(await acting(machine), before, 'the network is as it was');
    }
  } catch (error) {
    t.comment((await status()).slice(-4000));
    throw error;
  } finally {
    await machine.exec('systemctl stop mesh-agent mesh-redirect mesh-proxy mesh-agent-dns.socket');
    await machine.must(undo);
  }
  await eventually('all has stopped', 20_000, async () => {
    const { out } = await machine.exec("systemctl list-units --no-legend --plain 'mesh*'");
    return !/ (active|activating|deactivating) /.test(out);
  });
  t.equal(await acting(machine), before, 'and after it was mended and stopped as well');
  await machine.exec("systemctl reset-failed 'mesh*'");
}

/** Before it has joined: the join says why, changes nothing, and the secret is not spent. */
async function joins(t: Test, mesh: SmallMesh): Promise<void> {
  const a = mesh.hosts[0]!;
  await setWorkloads(a, [{ group: 'default/client', by: 'user: client' }]);
  const string = await mesh.meshctl('token create --host a --group default/client');
  a.write('/root/join', string, 0o644);
  const config = await a.must('cat /etc/mesh/agent.yaml');
  for (const [wrong, command, says] of [
    [
      'a file that others may read',
      'mesh-agent join --join-file /root/join',
      /others may read it; run: chmod 600 \/root\/join/,
    ],
    ['no such file', 'mesh-agent join --join-file /root/none', /cannot read the join string: ENOENT/],
    ['a folder', 'chmod 700 /root; mesh-agent join --join-file /root', /\/root is no file that holds a join string/],
    [
      'the clock two days ahead',
      'chmod 600 /root/join; CLOCK_DAYS=2 NODE_OPTIONS=--import=/usr/local/lib/clock.mjs mesh-agent join --join-file /root/join',
      /this host's clock is 28\d\d min ahead of the controller's.*set it, e\.g\. with chrony, and join again/,
    ],
  ] as const) {
    const ran = await a.exec(command);
    t.not(ran.code, 0, wrong);
    t.match(ran.err, says, wrong);
    t.equal(ran.err.trim().split('\n').length, 1, `${wrong}: one line`);
    t.equal((await a.must('ls /var/lib/mesh')).trim(), '', `${wrong}: nothing is written`);
    t.equal(await a.must('cat /etc/mesh/agent.yaml'), config, wrong);
  }
  const { err } = await mesh.controller.exec(
    `chmod 000 /root/t; cp /var/lib/mesh-controller/admin-token /root/t; chown nobody /root/t; chmod 600 /root/t; chmod 755 /root; setpriv --reuid daemon --clear-groups env MESH_API=https://${mesh.controller.address}:15200 MESH_CA_FILE=/dev/null MESH_TOKEN_FILE=/root/t meshctl status`,
  );
  t.match(err, /\/root\/t/, 'meshctl names the token file that it cannot read');
  t.match(err, /EACCES|permission/i);
}

tap.test('what is wrong on a host', async (t) => {
  const mesh = await createSmallMesh('bad', { hosts: 1, objects: OBJECTS });
  t.teardown(() => mesh.world.down());
  const [a] = mesh.hosts as [Machine];
  a.write('/usr/local/lib/clock.mjs', CLOCK_MJS);
  await a.must('useradd --system client');
  const before = await acting(a);
  await t.test('join', (t) => joins(t, mesh));
  await join_(mesh, a, [{ group: 'default/client', by: 'user: client' }]);
  for (const one of CASES)
    await t.test(one.wrong, { timeout: 60_000 }, (t) => explained(t, [a], () => judge(t, a, before, one)));
  await a.must('systemctl start mesh-agent');
  t.pass('with all mended, it starts');
});

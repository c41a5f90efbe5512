// Other programs that write packet filters, and daemons beside the mesh, on booted machines: a has iptables' nft backend and firewalld's own, b
// the legacy one of both. What they do without a mesh is what they do with one, byte for byte, and our rules are back within 5 s.
import tap, { type Test } from 'tap';
import { eventually, type Machine } from '../../scripts/lib/package/machine.ts';
import { NODE, rulesOf, STRICT_REVIEWS } from './mesh.ts';
import {
  callerOf,
  createSmallMesh,
  explained,
  get,
  installExtras,
  isActive,
  join_,
  type SmallMesh,
  sampleUnit,
  untilStopped,
} from './small-mesh.ts';

tap.setTimeout(600_000);

const CLIENT = 'spiffe://mesh.test/ns/default/sa/client';
const REPAIRED_MS = 5000;

/** As a container engine does it: a bridge, a container behind a published port, chains in front of everything, FORWARD closed. */
const BOX_UP = `
ip link add docker0 type bridge; ip address add 172.17.0.1/16 dev docker0; ip link set docker0 up
ip netns add box; ip link add box0 type veth peer name eth0 netns box; ip link set box0 master docker0 up
ip -n box address add 172.17.0.2/16 dev eth0; ip -n box link set eth0 up; ip -n box link set lo up; ip -n box route add default via 172.17.0.1
sysctl -qw net.ipv4.ip_forward=1
iptables -t nat -N DOCKER
iptables -t nat -I PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -I OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
iptables -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8088 -j DNAT --to-destination 172.17.0.2:80
iptables -N DOCKER; iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN
iptables -P FORWARD DROP
iptables -I FORWARD -o docker0 -j DOCKER; iptables -I FORWARD -j DOCKER-USER
iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A FORWARD -i docker0 -j ACCEPT
iptables -A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
systemd-run -q --unit=box ip netns exec box ${NODE} --no-warnings /srv/share/sample-service.ts box http=80`;
const BOX_DOWN = `
systemctl stop box; ip netns del box; ip link del docker0
iptables -P FORWARD ACCEPT
iptables -D FORWARD -j DOCKER-USER; iptables -D FORWARD -o docker0 -j DOCKER
iptables -D FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -D FORWARD -i docker0 -j ACCEPT
iptables -F DOCKER-USER; iptables -X DOCKER-USER; iptables -F DOCKER; iptables -X DOCKER
iptables -t nat -D PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -D OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -D POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
iptables -t nat -F DOCKER; iptables -t nat -X DOCKER`;
const NFTABLES = `flush ruleset
table inet site {
  chain input {
    type filter hook input priority filter; policy accept;
    tcp dport 4444 drop
  }
}
`;

/** It is on the bus before its rules stand. */
const FIREWALLD_UP = 'until firewall-cmd -q --state; do sleep 0.1; done';
/** What others do to the tables, in the order of a day. */
const DAY: readonly (readonly [what: string, command: string])[] = [
  ['firewalld starts', `systemctl start firewalld; ${FIREWALLD_UP}`],
  ['firewalld reloads', 'firewall-cmd -q --reload'],
  ['firewalld reloads completely', 'firewall-cmd -q --complete-reload'],
  ['firewalld is restarted', `systemctl restart firewalld; ${FIREWALLD_UP}`],
  ['firewalld stops', 'systemctl stop firewalld'],
  ['a container engine sets up its chains', BOX_UP],
  ['it takes them down', BOX_DOWN],
  ['nftables starts', 'systemctl start nftables'],
  ['nftables reloads, which flushes the ruleset', 'systemctl reload nftables'],
  ['nftables stops', 'systemctl stop nftables'],
];

/** The rules of others: all but our lines; a built-in chain that only accepts is none. nft's own tables too. */
async function foreign(machine: Machine): Promise<string> {
  const own = (line: string) => /MESH_/.test(line) || /^:[A-Z]+ ACCEPT$/.test(line) || /^(\*|COMMIT|#)/.test(line);
  const rules = (await rulesOf(machine)).split('\n').filter((line) => !own(line));
  const nft = await machine.must(
    "nft -a list ruleset inet | sed 's/ counter packets [0-9]* bytes [0-9]*//; s/ # handle [0-9]*//'",
  );
  return `${rules.join('\n')}\n${nft}`;
}

async function ours(machine: Machine): Promise<string> {
  return (await rulesOf(machine))
    .split('\n')
    .filter((line) => /MESH_/.test(line))
    .join('\n');
}

/** Chains in which something stands before our jump. */
async function overtaken(machine: Machine): Promise<string[]> {
  const found: string[] = [];
  let others = new Set<string>();
  for (const line of (await rulesOf(machine)).split('\n')) {
    if (line.startsWith('*')) others = new Set();
    const chain = /^-A ([A-Z]+) /.exec(line)?.[1];
    if (chain === undefined) continue;
    if (!/ MESH_/.test(line)) others.add(chain);
    else if (others.has(chain)) found.push(line);
  }
  return found;
}

/** Without a mesh: what stands after each step. */
async function rehearse(machine: Machine): Promise<string[]> {
  const seen: string[] = [];
  for (const [what, command] of DAY) {
    await machine.must(command);
    seen.push(await foreign(machine).catch((error) => Promise.reject(new Error(what, { cause: error }))));
  }
  return seen;
}

async function daemonsGoOn(t: Test, machine: Machine, from: Machine): Promise<void> {
  t.ok((await isActive(machine, 'ssh')) && (await isActive(machine, 'chrony')), 'sshd and chronyd run');
  t.match(
    (await from.exec(`ssh-keyscan -T 3 -t ed25519 ${machine.address} 2>&1`, { user: 'client' })).out,
    /ssh-ed25519/,
    'ssh answers',
  );
  t.match(await machine.must('chronyc -n tracking'), /Leap status/, 'chronyd answers');
}

async function prepare(machine: Machine, backend: 'nft' | 'legacy'): Promise<void> {
  if (backend === 'legacy')
    for (const ip of ['iptables', 'ip6tables'])
      await machine.must(`update-alternatives --set ${ip} /usr/sbin/${ip}-legacy`);
  // chronyd must not touch the clock, which is this machine's: -x, and a machine has no such right
  machine.write(
    '/etc/systemd/system/chrony.service.d/test.conf',
    '[Unit]\nConditionCapability=\n[Service]\nExecStart=\nExecStart=!/usr/sbin/chronyd -x -F 0\n',
  );
  await installExtras(machine, 'firewalld openssh-server chrony');
  // the package starts it; one that is stopped while it starts leaves half of its rules
  await machine.must(`${FIREWALLD_UP}; systemctl disable -q --now firewalld && systemctl start ssh chrony`);
  await machine.must(
    `sed -i 's/^FirewallBackend=.*/FirewallBackend=${backend === 'nft' ? 'nftables' : 'iptables'}/' /etc/firewalld/firewalld.conf`,
  );
  // what docs/redirection.md says that a host's own firewall has to let in
  await machine.must('firewall-offline-cmd -q --add-port=15006/tcp --add-port=15300/tcp --add-port=15300/udp');
  machine.write('/etc/nftables.conf', NFTABLES);
}

async function day(t: Test, mesh: SmallMesh, machine: Machine, rehearsed: readonly string[]): Promise<void> {
  const [a, b] = mesh.hosts as [Machine, Machine];
  const standing = await ours(machine);
  const served = async () => callerOf((await get(a, 'client', 'http://reviews:9080/')).reply) === CLIENT;
  for (const [index, [what, command]] of DAY.entries()) {
    await machine.must(command);
    const begun = performance.now();
    await eventually(`our rules stand after: ${what}`, REPAIRED_MS, async () => (await ours(machine)) === standing);
    await eventually(`and lead: ${what}`, REPAIRED_MS, async () => (await overtaken(machine)).length === 0);
    t.comment(`${what}: as they should be after ${Math.round(performance.now() - begun)} ms`);
    t.equal(await foreign(machine), rehearsed[index], `${what}: foreign rules as without a mesh`);
    await eventually(`a call is served after: ${what}`, 10_000, served);
    if (command !== BOX_UP) continue;
    const published = await get(mesh.controller, undefined, `http://${machine.address}:8088/`);
    t.equal(published.reply?.service, 'box', 'the published port of a container is served as ever');
    const out = await machine.exec(
      `ip netns exec box curl -s -m 3 -o /dev/null -w '%{http_code}' -k https://${mesh.controller.address}:15200/`,
    );
    t.match(out.out, /^[1-5]\d\d$/, 'a container reaches others past the mesh');
  }
  await daemonsGoOn(t, machine, machine === a ? b : a);
}

tap.test('firewalls and daemons beside the mesh', async (t) => {
  const mesh = await createSmallMesh('wall', { hosts: 2, objects: STRICT_REVIEWS, extras: true });
  t.teardown(() => mesh.world.down());
  const [a, b] = mesh.hosts as [Machine, Machine];
  await Promise.all([prepare(a, 'nft'), prepare(b, 'legacy')]);
  for (const host of [a, b]) await host.must('useradd --system client');
  await b.must('useradd --system reviews');
  b.write('/etc/systemd/system/reviews.service', sampleUnit('b', 'reviews', 9080));
  await b.must('systemctl daemon-reload && systemctl start reviews');
  await explained(t, [a, b], async () => {
    const before = await Promise.all([foreign(a), foreign(b)]);
    const rehearsed = await Promise.all([rehearse(a), rehearse(b)]);
    await join_(mesh, a, [{ group: 'default/client', by: 'user: client' }]);
    await join_(mesh, b, [
      { group: 'default/reviews', by: 'user: reviews' },
      { group: 'default/client', by: 'user: client' },
    ]);
    await Promise.all([a, b].map((host) => host.must('systemctl start mesh-agent')));
    t.match(await b.must('iptables-legacy-save'), /MESH_OUTPUT/, 'b has its rules in the legacy tables');
    for (const [index, host] of [a, b].entries())
      await t.test(`${host.name}, ${index === 0 ? 'nft' : 'legacy'}`, (t) =>
        explained(t, [host], () => day(t, mesh, host, rehearsed[index]!)),
      );
    for (const [index, host] of [a, b].entries()) {
      await host.must('systemctl stop mesh-agent');
      await untilStopped(host);
      t.equal(await ours(host), '', `${host.name}: stopped, no rule of ours stands`);
      t.equal(await foreign(host), before[index], `${host.name}: the others are as before`);
      await daemonsGoOn(t, host, host);
    }
  });
});

// Hosts on which something is wrong: one clear line that names the cause, the network as it was; or service goes on where it can.
import tap, { type Test } from 'tap';
import { eventually, type Machine } from '../../scripts/lib/package/machine.ts';
import { createMesh, joinHost, makeShare, NODE, rulesOf } from './mesh.ts';

tap.setTimeout(600_000);

interface Case {
  readonly wrong: string;
  /** Makes it so, and how it was. */
  readonly make: string;
  readonly undo: string;
  /** What the journal of the mesh's units says, in one line. */
  readonly says: RegExp;
  /** Whether the host serves all the same. */
  readonly serves: boolean;
}

const TOOLS = 'iptables ip6tables iptables-save ip6tables-save iptables-restore ip6tables-restore';
const FULL = `mount -t tmpfs -o size=2M,mode=2750,uid=$(id -u mesh-agent),gid=$(id -g mesh-proxy) full /var/lib/mesh
  cp -a /root/state/. /var/lib/mesh/; dd if=/dev/zero of=/var/lib/mesh/full 2>/dev/null; test $(df --output=avail /var/lib/mesh | tail -1) = 0`;

const CASES: readonly Case[] = [
  {
    wrong: 'agent.yaml was written for a newer version',
    make: "cp /etc/mesh/agent.yaml /root/agent.yaml; echo 'newer: 1' >> /etc/mesh/agent.yaml",
    undo: 'cp /root/agent.yaml /etc/mesh/agent.yaml',
    says: /^mesh-agent: \/etc\/mesh\/agent\.yaml:\d+:1: unknown key newer/m,
    serves: false,
  },
  {
    wrong: 'agent.yaml cannot be read by the agent',
    make: 'chmod 600 /etc/mesh/agent.yaml',
    undo: 'chmod 644 /etc/mesh/agent.yaml',
    says: /^mesh-agent: \/etc\/mesh\/agent\.yaml: cannot read it: EACCES/m,
    serves: false,
  },
  {
    wrong: 'another user’s program listens on port 15001',
    make: `setsid setpriv --reuid nobody --clear-groups ${NODE} -e "require('net').createServer().listen(15001,'127.0.0.1')" >/dev/null 2>&1 & echo $! > /root/pid; until ss -Hltn | grep -q 127.0.0.1:15001; do sleep 0.1; done`,
    undo: 'kill $(cat /root/pid)',
    says: /^mesh-agent redirect apply: port 15001 is held by uid 65534, not by the proxy/m,
    serves: false,
  },
  {
    wrong: 'iptables is not installed',
    make: `mkdir -p /root/aside; for tool in ${TOOLS}; do mv /usr/sbin/$tool /root/aside/; done`,
    undo: 'mv /root/aside/* /usr/sbin/',
    says: /^mesh-agent redirect apply: iptables is not installed \(package iptables\)/m,
    serves: false,
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
];

async function judge(t: Test, machine: Machine, before: string, { make, undo, says, serves }: Case): Promise<void> {
  const since = (await machine.must("date '+@%s'")).trim();
  const said = async () =>
    machine.must(`journalctl --no-pager -o cat --since ${since} -u 'mesh-*' | grep -v '"authority"'`);
  const active = async () => (await machine.exec('systemctl is-active mesh-agent')).out.trim();
  await machine.must(make);
  try {
    await machine.must('systemctl start --no-block mesh-agent');
    await eventually('the cause is named', 20_000, async () => says.test(await said()));
    if (serves) {
      await eventually('it serves', 20_000, async () => (await active()) === 'active');
      t.match(await rulesOf(machine), /MESH_OUTPUT/, 'the rules stand');
    } else {
      t.not(await active(), 'active', 'not ready');
      if (!/iptables is not/.test(says.source)) t.equal(await rulesOf(machine), before, 'the network is as it was');
    }
  } catch (error) {
    t.comment((await said()).split('\n').slice(-15).join('\n'));
    throw error;
  } finally {
    // a failed unit is not stopped again by systemd, so all are named (docs/packages.md)
    await machine.exec('systemctl stop mesh-agent mesh-redirect mesh-proxy mesh-agent-dns.socket');
    await machine.must(undo);
  }
  await eventually('all has stopped', 20_000, async () => {
    const { out } = await machine.exec("systemctl list-units --no-legend --plain 'mesh*'");
    return !/ (active|activating|deactivating) /.test(out);
  });
  t.equal(await rulesOf(machine), before, 'and after it was mended and stopped as well');
  await machine.exec("systemctl reset-failed 'mesh*'");
}

tap.test('what is wrong on a host', async (t) => {
  const mesh = await createMesh('bad', makeShare('bad'));
  t.teardown(() => mesh.world.down());
  const before = await rulesOf(mesh.a);
  await joinHost(mesh, mesh.a, { group: 'default/client', user: 'client' });
  for (const one of CASES) await t.test(one.wrong, { timeout: 120_000 }, (t) => judge(t, mesh.a, before, one));
  await mesh.a.must('systemctl start mesh-agent');
  t.pass('with all mended, it starts');
});

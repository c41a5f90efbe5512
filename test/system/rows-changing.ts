// Rows of the operator's table that change what is installed or running: upgrades, reboot, stop, remove, purge.
import { eventually } from '../../scripts/lib/package/machine.ts';
import { apt, buildNextVersion, buildRepository, NEXT_VERSION, waitServing } from './mesh.ts';
import { asBefore, envoyPid, isActive, mainPid, type Rows, ready, URL, underLoad } from './rows.ts';

/** In order, on the mesh that the rows of rows-running.ts left. */
export const CHANGING: Rows = [
  [
    'upgrade of mesh-agent to N+1 under load: nothing lost, Envoy goes on',
    async (t, { mesh, share }) => {
      buildNextVersion(share);
      for (const machine of [mesh.a, mesh.b]) {
        const [proxy, agent] = [await envoyPid(machine), await mainPid(machine, 'mesh-agent')];
        await machine.must('apt-get -qq update');
        await underLoad(t, mesh, async () => {
          await machine.must(apt('install mesh-agent'));
          await ready(machine, agent);
        });
        t.match(await machine.must('dpkg -s mesh-agent'), NEXT_VERSION);
        t.equal(await envoyPid(machine), proxy, `${machine.name}: Envoy went on`);
      }
    },
  ],
  [
    'downgrade to N under load: works on the state of N+1',
    async (t, { mesh }) => {
      const agent = await mainPid(mesh.a, 'mesh-agent');
      await underLoad(t, mesh, async () => {
        await mesh.a.must(apt("install --allow-downgrades 'mesh-agent=0.1.0-1'"));
        await ready(mesh.a, agent);
      });
      t.ok(await mesh.call());
    },
  ],
  [
    'upgrade of mesh-envoy under load: the new one takes over, nothing lost',
    async (t, { mesh, share }) => {
      buildRepository(share, ['mesh-envoy'], ['--release', '2']);
      for (const machine of [mesh.a, mesh.b]) {
        const [proxy, former] = [await mainPid(machine, 'mesh-proxy'), await envoyPid(machine)];
        await machine.must('apt-get -qq update');
        await underLoad(t, mesh, async () => {
          t.notMatch(await machine.must(apt('install mesh-envoy')), /the former Envoy runs on/);
          await eventually('another Envoy is in charge', 10_000, async () => (await envoyPid(machine)) !== former);
          await eventually('it has its config', 15_000, async () =>
            /\d+ verified, \d+ acknowledged by Envoy/.test(
              await machine.must('meshctl --socket /run/mesh/admin.sock status'),
            ),
          );
        });
        t.equal(await mainPid(machine, 'mesh-proxy'), proxy, `${machine.name}: the unit was not restarted`);
      }
      for (const machine of [mesh.a, mesh.b])
        await eventually(
          `${machine.name}: the former Envoy has ended`,
          60_000,
          async () => (await machine.must('pgrep -c -x -u mesh-proxy envoy')).trim() === '1',
        );
      await waitServing(mesh, 2);
      const crashed = await envoyPid(mesh.a);
      await mesh.a.must(`kill -KILL ${crashed}`);
      await eventually(
        'Envoy is back after a crash of the new one',
        5000,
        async () => (await mesh.call()) !== undefined && (await envoyPid(mesh.a)) !== crashed,
      );
    },
  ],
  [
    'reboot with the controller switched off: serving before units ordered after mesh-agent',
    async (t, { mesh }) => {
      await mesh.controller.must('systemctl stop mesh-controller');
      mesh.a.write(
        '/etc/systemd/system/probe.service',
        `[Unit]\nAfter=mesh-agent.service\n[Service]\nType=oneshot\nUser=client\nExecStart=/usr/bin/curl -sf -m 5 -o /dev/null ${URL}\n[Install]\nWantedBy=multi-user.target\n`,
      );
      await mesh.a.must('systemctl enable -q probe');
      await mesh.a.reboot();
      t.equal(
        (await mesh.a.must('systemctl show -p Result --value probe')).trim(),
        'success',
        'the first request was served',
      );
      t.ok(await isActive(mesh.a, 'mesh-agent'));
      await mesh.b.reboot();
      await waitServing(mesh, 2);
      await mesh.controller.must('systemctl start mesh-controller');
      await mesh.a.must('systemctl disable -q probe');
    },
  ],
  [
    'systemctl stop mesh-agent under load: endpoints leave first, nothing lost; then the host is as before',
    async (t, { mesh, before }) => {
      await underLoad(t, mesh, async () => {
        await mesh.b.must('systemctl stop mesh-agent');
        await asBefore(t, mesh.b, before.get('b')!);
      });
      const plain = await mesh.controller.exec(`curl -sf -m 3 http://${mesh.b.address}:9080/`);
      t.equal(plain.code, 0, 'plain traffic works as before installation');
      await mesh.b.must('systemctl start mesh-agent');
      await waitServing(mesh, 2);
    },
  ],
  [
    'apt remove while running: stopped in order, all as before; state and config stay',
    async (t, { mesh, before }) => {
      await underLoad(t, mesh, () => mesh.b.must(apt('remove mesh-agent')));
      await asBefore(t, mesh.b, before.get('b')!);
      await mesh.b.must('test -s /etc/mesh/agent.yaml && test -d /var/lib/mesh/identity');
      await mesh.b.must(apt('install mesh-agent'));
      await mesh.b.must('systemctl enable --now mesh-agent');
      await waitServing(mesh, 2);
      t.pass('installed again, it is a host of the mesh again');
    },
  ],
  [
    'apt purge while running: nothing is left but the users',
    async (t, { mesh, before }) => {
      for (const machine of [mesh.a, mesh.d]) {
        await machine.must(apt('purge mesh-agent mesh-envoy mesh-node meshctl'));
        const left = await machine.must(
          "find / -xdev -name '*mesh*' -not -path '/srv/*' -not -path '/proc/*' -not -path '/sys/*' -not -path '/etc/apt/*' -not -path '/usr/share/keyrings/*' -not -path '/var/log/*'",
        );
        t.equal(left, '', `${machine.name}: no file is left`);
        t.equal((await machine.must('ls /run | grep mesh || true')).trim(), '');
        if (machine === mesh.a) await asBefore(t, machine, before.get('a')!);
        else
          t.notMatch(
            await machine.must('iptables-legacy-save; ip6tables-legacy-save'),
            /MESH_/,
            'no rule in legacy tables',
          );
        t.equal(
          (await machine.must('getent passwd mesh-agent mesh-proxy | cut -d: -f1')).trim(),
          'mesh-agent\nmesh-proxy',
        );
      }
    },
  ],
];

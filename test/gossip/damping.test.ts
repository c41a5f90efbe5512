/** The floor on real gossip: which endpoints Envoy would be given when hosts of a service stop without a word, and when they are back. */
import { Registry } from 'prom-client';
import t from 'tap';
import { createDampedEndpoints } from '../../agent/endpoints/damped-endpoints.ts';
import { systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { createTestMesh, GROUP, type MeshHost, sees, show, until } from './mesh.ts';

t.setTimeout(300_000);

const PAY = 'default/pay';

t.test(
  'two of a service are out one by one; three at once stay in, and are in without a break when they return',
  async (t) => {
    const mesh = createTestMesh(7);
    t.teardown(() => mesh.stop());
    mesh.config((grants) => {
      for (const host of ['h4', 'h5']) grants.hosts.set(host, { ...grants.hosts.get(host)!, workloadGroups: [PAY] });
    });
    const serves = (group: string) => ({ fields: { workloads: [{ group, health: 'healthy' as const }] } });
    for (const host of ['h0', 'h6']) await mesh.add(host, { fields: { workloads: [] } });
    for (const host of ['h1', 'h2', 'h3']) await mesh.add(host, serves(GROUP));
    for (const host of ['h4', 'h5']) await mesh.add(host, serves(PAY));
    const hosts = [...mesh.hosts.values()];
    await until(
      () => hosts.every((host) => hosts.every((other) => sees(host, other.host))),
      20_000,
      () => show(mesh),
    );
    const [h0, h1, h2, h3, h4, h5] = ['h0', 'h1', 'h2', 'h3', 'h4', 'h5'].map((host) => mesh.hosts.get(host)) as [
      MeshHost,
      MeshHost,
      MeshHost,
      MeshHost,
      MeshHost,
      MeshHost,
    ];

    const given: string[] = [];
    const endpoints = createDampedEndpoints({
      host: 'h0',
      snapshot: () => h0.gossip.snapshot(),
      onDue: () => look(),
      clock: systemClock,
      log: silentLogger,
      registry: new Registry(),
    });
    const look = () => {
      given.push(usable(GROUP));
    };
    const usable = (group: string): string =>
      [...endpoints.snapshot().hosts]
        .filter(([, { liveness }]) => liveness === 'alive' || liveness === 'suspect')
        .filter(([, { record }]) => record.workloads.some((one) => one.group === group && one.health === 'healthy'))
        .map(([host]) => host)
        .sort()
        .join(' ');
    h0.gossip.onChange(look);
    look();

    await h4.stop();
    const first = await until(() => usable(PAY) === 'h5', 10_000);
    await h5.stop();
    const second = await until(() => usable(PAY) === '', 10_000);
    t.ok(Math.max(first, second) < 5000, `out after ${Math.round(first)} and ${Math.round(second)} ms`);
    t.same(endpoints.problems(), []);

    await Promise.all([h1.stop(), h2.stop(), h3.stop()]);
    await until(
      () => ['h1', 'h2', 'h3'].every((host) => sees(h0, host, 'dead')),
      15_000,
      () => show(mesh),
    );
    t.equal(usable(GROUP), 'h1 h2 h3', 'the last known set');
    t.match(endpoints.problems().join(), /default\/web: no endpoint answers gossip any more/);
    t.equal(usable(PAY), '', 'the dead of before stay out');

    const from = given.length;
    await Promise.all([h1.restart(), h2.restart(), h3.restart()]);
    await until(
      () => ['h1', 'h2', 'h3'].every((host) => sees(h0, host)) && endpoints.problems().length === 0,
      20_000,
      () => `${show(mesh)}\n${endpoints.problems()}`,
    );
    look();
    t.same([...new Set(given.slice(from))], ['h1 h2 h3'], 'without a break');
  },
);

/** What a host says of its endpoints, from its own record to another host's load balancing: weight, health, draining, leaving. Locality and labels come from config alone. */
import t from 'tap';
import { buildMeshView } from '../../agent/mesh-view/mesh-view.ts';
import type { WorkloadRecord } from '../../api/gossip/host-record.ts';
import { group, meshInput, service } from '../unit/agent/mesh-view/build-mesh.ts';
import { createTestMesh, GROUP, type MeshHost, sees, show, until } from './mesh.ts';

t.setTimeout(300_000);

t.test(
  'weight, health and draining change at all within a second; a host that leaves is out before it stops',
  async (t) => {
    const mesh = createTestMesh(5);
    t.teardown(() => mesh.stop());
    for (let i = 0; i < 5; i++) await mesh.add(`h${i}`);
    const hosts = [...mesh.hosts.values()];
    await until(
      () => hosts.every((h) => hosts.every((o) => sees(h, o.host))),
      20_000,
      () => show(mesh),
    );
    const h4 = mesh.hosts.get('h4') as MeshHost;
    const others = hosts.filter((host) => host !== h4);

    const input = meshInput({
      objects: [
        group('web', { http: 8080 }, { locality: 'eu/a' }),
        service('web', [{ name: 'http', port: 80, targetPort: 'http' }]),
      ],
      hosts: hosts.map(({ host, address }) => ({ id: host, addresses: [address], groups: [GROUP] })),
    });
    /** The endpoint of h4 as `observer` gives it to its Envoy: `HEALTH weight locality`, or none. */
    const endpoint = (observer: MeshHost): string => {
      const view = buildMeshView({ ...input, endpoints: observer.gossip.snapshot() });
      const found = view.services[0]?.endpoints.find(({ id }) => id === `h4/${GROUP}`);
      return found === undefined ? 'none' : `${found.health} ${found.weight} ${found.locality}`;
    };
    const everywhere = (expected: string) =>
      until(
        () => others.every((host) => endpoint(host) === expected),
        10_000,
        () => `${expected}: ${others.map((host) => `${host.host} ${endpoint(host)}`).join(', ')}`,
      );
    const says = (workload: Omit<WorkloadRecord, 'group'>) =>
      h4.gossip.publishOwn({
        network: 'default',
        addresses: [h4.address],
        workloads: [{ group: GROUP, ...workload }],
      });

    await everywhere('healthy 1 eu/a');
    const rows: [Omit<WorkloadRecord, 'group'>, string][] = [
      [{ health: 'healthy', weight: 7 }, 'healthy 7 eu/a'],
      [{ health: 'unhealthy', weight: 7 }, 'unhealthy 7 eu/a'],
      [{ health: 'healthy' }, 'healthy 1 eu/a'],
      [{ health: 'draining' }, 'draining 1 eu/a'],
      [{ health: 'healthy' }, 'healthy 1 eu/a'],
    ];
    for (const [workload, expected] of rows) {
      await says(workload);
      const took = await everywhere(expected);
      t.ok(took < 2000, `${expected}: after ${Math.round(took)} ms`);
    }

    // The order of `mesh-agent leave` (agent/followers.ts): withdraw, 0.5 s, Envoy asks its clients to go, 1.5 s, then processes stop.
    const started = performance.now();
    const left = h4.gossip.leave().then(() => performance.now() - started);
    const gone = await everywhere('none');
    const flushed = await left;
    t.ok(
      gone < flushed + 500 + 1500,
      `out everywhere after ${Math.round(gone)} ms, stopped after ${Math.round(flushed + 2000)} at the earliest`,
    );
    t.ok(others.every((host) => host.gossip.snapshot().hosts.get('h4')?.liveness === 'left'));
    await h4.stop();
  },
);

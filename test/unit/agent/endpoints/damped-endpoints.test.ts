import { Registry } from 'prom-client';
import t from 'tap';
import { createDampedEndpoints } from '../../../../agent/endpoints/damped-endpoints.ts';
import type { EndpointSnapshot, Liveness } from '../../../../api/gossip/host-record.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';

t.test('asks to be looked at when its time is over; status lines, log and metrics say what it does', async (t) => {
  const clock = createFakeClock();
  const registry = new Registry();
  const logged: unknown[] = [];
  const liveness = new Map<string, Liveness>(['h0', 'h1', 'h2', 'h3'].map((host) => [host, 'alive']));
  const table = (): EndpointSnapshot => ({
    version: 1,
    synced: true,
    hosts: new Map(
      [...liveness].map(([host, now]) => [
        host,
        {
          liveness: now,
          provenAddresses: [],
          record: {
            host,
            epoch: 1,
            counter: 1,
            capability: 1,
            network: 'default',
            addresses: [],
            gossipAddresses: [],
            probeKey: '',
            workloads: host === 'h0' ? [] : [{ group: 'default/web', health: 'healthy' as const }],
          },
        },
      ]),
    ),
  });
  let due = 0;
  const endpoints = createDampedEndpoints({
    host: 'h0',
    snapshot: table,
    onDue: () => {
      due += 1;
      endpoints.snapshot();
    },
    clock,
    log: { ...silentLogger, warn: (_message, fields) => void logged.push(fields?.reason) },
    registry,
  });
  endpoints.snapshot();
  t.same(endpoints.problems(), []);
  for (const host of ['h1', 'h2', 'h3']) liveness.set(host, 'dead');
  for (let i = 0; i < 3; i++) endpoints.snapshot();
  t.match(endpoints.problems(), [/^default\/web: no endpoint answers gossip .* kept \(h1, h2, h3\)/]);
  t.same(logged, endpoints.problems(), 'said once');
  t.match(await registry.metrics(), /mesh_agent_endpoints_kept 3\n/);
  await clock.advance(10 * 60_000);
  t.equal(due, 1);
  t.same(endpoints.problems(), []);
  t.match(await registry.metrics(), /mesh_agent_endpoints_kept 0\n/);

  for (let i = 0; i < 4; i++) {
    for (const host of ['h1', 'h2']) liveness.set(host, 'alive');
    liveness.set('h3', i % 2 === 0 ? 'alive' : 'dead');
    endpoints.snapshot();
    await clock.advance(1000);
  }
  liveness.set('h3', 'alive');
  endpoints.snapshot();
  t.match(endpoints.problems(), [/^h3 is kept out of load balancing: it was up and down/]);
  t.match(await registry.metrics(), /mesh_agent_endpoints_held_back 1\n/);
  await clock.advance(10_000);
  t.same(endpoints.problems(), []);
});

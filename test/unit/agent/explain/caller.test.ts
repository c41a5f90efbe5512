// A route table that several workloads share: why asks it as Envoy does, with the header by which the caller's proxy says whose request it is.
import t from 'tap';
import type { EnvoySource } from '../../../../agent/explain/envoy-json.ts';
import { httpRoute } from '../../../../agent/explain/http-route.ts';
import type { WhySources } from '../../../../agent/explain/sources.ts';
import { introduced } from '../../../../agent/translate/caller.ts';

const TABLE = {
  virtual_hosts: [
    {
      name: 'reviews.default.svc.cluster.local:80',
      domains: ['*'],
      routes: ['web', 'job'].map((name) => ({
        match: { prefix: '/', headers: [{ name: 'x-hostmesh-workload', string_match: { exact: name } }] },
        route: { cluster: `for-${name}` },
      })),
    },
  ],
};

t.test('the route of the workload that asks, whatever it writes into its request', async (t) => {
  const envoy: EnvoySource = {
    listener: async () => undefined,
    route: async () => TABLE,
    extension: async () => undefined,
    cluster: async () => undefined,
    hosts: async () => [],
  };
  const sources: WhySources = {
    callers: [],
    envoy,
    lookup: () => ({ kind: 'addresses', v4: [], v6: [], origins: [] }),
    uncaptured: () => undefined,
    served: () => ({ origins: [] }),
    object: () => undefined,
  };
  for (const name of ['web', 'job']) {
    const manager = { rds: { route_config_name: 'outbound_.80_.default' }, ...introduced({ name, labels: {} }) };
    const headers = { 'x-hostmesh-workload': 'forged' };
    const query = { ask: 'why' as const, to: 'reviews', port: 80, method: 'GET', path: '/', headers };
    const { step, found } = await httpRoute(query, manager, false, sources);
    t.equal(step.verdict, 'ok', 'nothing about it is uncertain');
    t.same(
      found?.clusters.map((one) => one.name),
      [`for-${name}`],
    );
  }
});

import { Registry } from 'prom-client';
import t from 'tap';
import { readGauge } from '../../../runtime/metrics.ts';

t.test('a gauge is read at each scrape, and not before', async (t) => {
  const registry = new Registry();
  let reads = 0;
  readGauge(registry, 'mesh_agent_x', 'An x.', () => ++reads);
  t.equal(reads, 0);
  t.equal(await registry.metrics(), '# HELP mesh_agent_x An x.\n# TYPE mesh_agent_x gauge\nmesh_agent_x 1\n');
  t.match(await registry.metrics(), /\nmesh_agent_x 2\n/);
});

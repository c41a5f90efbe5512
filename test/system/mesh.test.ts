// What an operator does on booted machines, and what must be true then (docs/packages.md). Rows run in order on one mesh: a calls, b and d
// serve, c is the controller. d has the legacy backend of iptables.
import tap from 'tap';
import { createMesh, makeShare } from './mesh.ts';
import { runRows, type World } from './rows.ts';
import { CHANGING } from './rows-changing.ts';
import { RUNNING } from './rows-running.ts';

tap.setTimeout(840_000);

tap.test('the operator’s table, on booted machines', { timeout: 840_000 }, async (t) => {
  const share = makeShare('mesh');
  const mesh = await createMesh('mesh', share);
  t.teardown(() => mesh.world.down());
  const world: World = { mesh, share, before: new Map<string, string>() };
  await runRows(t, world, RUNNING);
  await runRows(t, world, CHANGING);
});

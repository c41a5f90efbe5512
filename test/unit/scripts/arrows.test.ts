import { test } from 'tap';
import { checkArrows } from '../../../scripts/lib/arrows.ts';

test('no import goes against the arrows of docs/architecture.md, none is in a cycle', async (t) => {
  const { violations, modules } = await checkArrows();
  t.strictSame(violations, []);
  t.ok(modules > 20, 'the tree was read');
});

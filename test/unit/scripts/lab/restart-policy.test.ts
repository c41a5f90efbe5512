import { test } from 'tap';
import { afterDeath } from '../../../../scripts/lib/lab/restart-policy.ts';

const policy = { delayMs: 100, burst: 4, intervalMs: 30_000, preventStatus: [64, 78] };

test('a unit is started again, unless it cannot help or dies too often', (t) => {
  const cases: readonly (readonly [string, number | undefined, number[], 'restart' | 'fail'])[] = [
    ['first death', 1, [1000], 'restart'],
    ['killed', undefined, [1000], 'restart'],
    ['clean exit', 0, [1000], 'restart'],
    ['a broken config', 78, [1000], 'fail'],
    ['a wrong call', 64, [1000], 'fail'],
    ['the fourth in the interval', 1, [0, 10, 20, 30], 'restart'],
    ['the fifth in the interval', 1, [0, 10, 20, 30, 40], 'fail'],
    ['old deaths do not count', 1, [0, 10, 20, 30, 30_031], 'restart'],
  ];
  for (const [name, status, deaths, expected] of cases) t.equal(afterDeath(policy, status, deaths), expected, name);
  t.end();
});

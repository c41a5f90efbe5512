import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createCounterFile, createTableFile, type StoredRow } from '../../../../agent/gossip/table-file.ts';
import { systemClock } from '../../../../runtime/clock.ts';
import { silentLogger } from '../../../../runtime/log.ts';

const deps = {
  clock: { ...systemClock, after: (_ms: number, fn: () => void) => systemClock.after(1, fn) },
  log: silentLogger,
};

t.test('the table comes back', async (t) => {
  const path = join(t.testdir(), 'table.json');
  const rows: StoredRow[] = [{ envelope: Buffer.from('signed'), proven: ['10.0.0.1'] }];
  t.same(await createTableFile(path, () => rows, deps).load(), [], 'none yet');
  const file = createTableFile(path, () => rows, deps);
  file.touch();
  await file.flush();
  t.same(await createTableFile(path, () => [], deps).load(), rows);
});

t.test('a broken table is set aside', async (t) => {
  for (const text of ['{', '{"version":2,"hosts":[]}', '{"version":1,"hosts":[{}]}', 'null']) {
    const path = join(t.testdir(), 'table.json');
    writeFileSync(path, text);
    t.same(await createTableFile(path, () => [], deps).load(), [], text);
    t.equal(readFileSync(`${path}.broken`, 'utf8'), text);
    t.notOk(existsSync(path));
  }
});

t.test('a disk that refuses is survived', async (t) => {
  const path = join(t.testdir(), 'nowhere', 'table.json');
  const file = createTableFile(path, () => [], deps);
  file.touch();
  await file.flush();
  t.notOk(existsSync(path));
});

t.test('no counter is given out twice, whatever crashes', async (t) => {
  const path = join(t.testdir(), 'counter');
  const seen = new Set<number>();
  let last = 0;
  for (let boot = 0; boot < 5; boot++) {
    const counter = createCounterFile(path, silentLogger);
    for (let i = 0; i < 1 + boot * 40; i++) {
      const n = await counter.next();
      t.notOk(seen.has(n) || n <= last);
      seen.add(n);
      last = n;
    }
  }
});

t.test('a lost counter goes above what neighbours hold, and a file above that counts too', async (t) => {
  const dir = t.testdir({ counter: '500' });
  const counter = createCounterFile(join(dir, 'counter'), silentLogger);
  counter.raise(100);
  t.equal(await counter.next(), 501);
  counter.raise(1000);
  t.equal(await counter.next(), 1001);
  const broken = createCounterFile(join(t.testdir({ c: 'x' }), 'c'), silentLogger);
  t.equal(await broken.next(), 1);
  const nowhere = createCounterFile('/proc/nowhere/counter', silentLogger);
  t.same([await nowhere.next(), await nowhere.next()], [1, 2]);
});

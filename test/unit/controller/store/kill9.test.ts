import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { initSqliteStore, openSqliteStore } from '../../../../controller/store/sqlite.ts';

const ROUNDS = 6;
const [role, childPath] = process.argv.slice(2);

if (role === 'write') await writeForEver(childPath as string);
else killUnderWrites();

/** The child: transactions of three keys that carry one number, each acknowledged on stdout after commit resolved. */
async function writeForEver(path: string): Promise<void> {
  const store = openSqliteStore({ path, historyRevisions: 50 });
  for (let n = Number(JSON.parse((await store.get('n/0'))?.value ?? '0')) + 1; ; n++) {
    const value = JSON.stringify(n);
    const result = await store.commit([0, 1, 2].map((i) => ({ key: `n/${i}`, value })));
    process.stdout.write(`${n} ${result.revision}\n`);
  }
}

function killUnderWrites(): void {
  t.test('kill -9 under writes loses no acknowledged write and halves no transaction', async (t) => {
    const path = join(t.testdir(), 'store.db');
    initSqliteStore(path);
    for (let round = 0; round < ROUNDS; round++) {
      const acknowledged = await writeUntilKilled(path, 20 + round * 17);
      const store = openSqliteStore({ path });
      const { entries, revision } = await store.list('n/');
      const numbers = entries.map((e) => JSON.parse(e.value) as number);
      t.equal(new Set(numbers).size, 1, 'the three keys carry one number');
      t.ok((numbers[0] as number) >= acknowledged.number, `round ${round}: ${acknowledged.number} was acknowledged`);
      t.ok(revision >= acknowledged.revision, 'revisions do not go back');
      t.ok(entries.every((e) => e.revision === revision));
      await store.close();
    }
  });
}

/** Kills the child right after it acknowledged its `count`th write; gives the last acknowledgement that reached us. */
async function writeUntilKilled(path: string, count: number): Promise<{ number: number; revision: number }> {
  const child: ChildProcess = spawn(process.execPath, [fileURLToPath(import.meta.url), 'write', path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  let last = { number: 0, revision: 0 };
  let seen = 0;
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    const [number, revision] = line.split(' ').map(Number) as [number, number];
    // A line cut by the kill is no acknowledgement.
    if (Number.isInteger(number) && Number.isInteger(revision)) last = { number, revision };
    seen += 1;
    if (seen === count) child.kill('SIGKILL');
  }
  await exited;
  if (seen < count) throw new Error(`the writer ended by itself after ${seen} writes`);
  return last;
}

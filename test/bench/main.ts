/**
 * `npm run bench [NAME...]`: measures and writes test/bench/results/NAME.json. Needs root for `mesh` and `gossip` (network namespaces). Figures of one run on
 * one machine: compare those of the same run, not of two.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';

const BENCHES: Readonly<Record<string, () => Promise<object>>> = {
  'signed-config': async () => (await import('./signed-config.ts')).run(),
  translate: async () => (await import('./translate.ts')).run((line) => process.stderr.write(`  ${line}\n`)),
  'config-by-gossip': async () =>
    (await import('./config-by-gossip.ts')).run((line) => process.stderr.write(`  ${line}\n`)),
  gossip: async () => (await import('./gossip/gossip.ts')).run((line) => process.stderr.write(`  ${line}\n`)),
  simulation: async () => (await import('./simulation.ts')).run((line) => process.stderr.write(`  ${line}\n`)),
  push: async () => (await import('./push.ts')).run((line) => process.stderr.write(`  ${line}\n`)),
  mesh: async () => (await import('./mesh.ts')).run((line) => process.stderr.write(`  ${line}\n`)),
};

const names = process.argv.slice(2);
for (const name of names)
  if (!(name in BENCHES)) {
    process.stderr.write(`bench: no ${name}; there are ${Object.keys(BENCHES).join(', ')}\n`);
    process.exit(64);
  }
const folder = join(import.meta.dirname, 'results');
mkdirSync(folder, { recursive: true });
for (const name of names.length > 0 ? names : Object.keys(BENCHES)) {
  process.stderr.write(`bench: ${name}\n`);
  const figures = await (BENCHES[name] as () => Promise<object>)();
  const machine = { cpus: cpus().length, memoryGiB: Math.round(totalmem() / 2 ** 30), node: process.version };
  const text = `${JSON.stringify({ bench: name, date: new Date().toISOString().slice(0, 10), machine, figures }, null, 2)}\n`;
  writeFileSync(join(folder, `${name}.json`), text);
  process.stdout.write(text);
}
process.exit();

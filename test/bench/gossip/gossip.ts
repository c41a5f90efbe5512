/**
 * `npm run bench gossip`: our gossip rooms and memberlist (LAN defaults, built from its Go module, a tool of this bench only) on the same
 * network namespaces in one run, side by side. BENCH_GOSSIP_N: sizes, default `20,100,200`. Needs root and Go.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createFleet, type Program } from './fleet.ts';
import * as measures from './measures.ts';
import { createNetwork, type Network } from './network.ts';

const SETTLE_WITHIN_MS = 120_000;
/** The partition and the restarts take minutes: at this size only. */
const LONG_AT = 100;

export async function run(say: (line: string) => void): Promise<object> {
  const sizes = (process.env.BENCH_GOSSIP_N ?? '20,100,200').split(',').map(Number);
  const peer = buildPeer();
  const sides: Readonly<Record<string, Program>> = {
    hostmesh: ourProgram,
    memberlist: () => [peer],
  };
  const network = createNetwork(`hmbench-${process.pid}`, Math.max(...sizes));
  const figures: Record<string, Record<string, object>> = {};
  try {
    for (const size of sizes)
      for (const [name, program] of Object.entries(sides)) {
        const key = `${name} N=${size}`;
        figures[key] = await measure(program, size, network, (line) => say(`${key}: ${line}`));
      }
    return figures;
  } finally {
    network.close();
  }
}

/** One alone has the agent's own flags (packaging/systemd); forty in one heap of that setting would spend a fifth of their CPU collecting it. */
function ourProgram(members: number): readonly string[] {
  const flags = members === 1 ? ['--max-semi-space-size=1'] : [];
  return [process.execPath, ...flags, '--no-warnings', join(import.meta.dirname, 'member.ts')];
}

function buildPeer(): string {
  const out = join(import.meta.dirname, '../../../build/bench-peer');
  mkdirSync(join(out, '..'), { recursive: true });
  execFileSync('go', ['build', '-o', out, '.'], {
    cwd: join(import.meta.dirname, 'peer'),
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return out;
}

async function measure(
  program: Program,
  size: number,
  network: Network,
  say: (line: string) => void,
): Promise<Record<string, object>> {
  const fleet = await createFleet(program, size, network);
  const figures: Record<string, object> = {};
  try {
    figures.start = { wholeAfterSeconds: Math.round(await fleet.whole(size - 1, SETTLE_WITHIN_MS)) / 1000 };
    const list: [string, () => Promise<object>][] = [
      ['idle', () => measures.idle(fleet, network)],
      ['changes', () => measures.changes(fleet)],
      ['allAtOnce', () => measures.allAtOnce(fleet)],
      ['busy', () => measures.busy(fleet)],
      ['stall', () => measures.stall(fleet)],
      ['partition', () => measures.partition(fleet, network)],
      ['restarts', () => measures.restarts(fleet)],
      ['kill', () => measures.kill(fleet)],
    ];
    for (const [name, take] of list) {
      if (size !== LONG_AT && ['partition', 'restarts'].includes(name)) continue;
      // one that does not come to its end says so among the figures; the others are taken all the same
      figures[name] = await take().catch((error: unknown) => ({ failed: String(error) }));
      say(`${name}: ${JSON.stringify(figures[name])}`);
      await fleet.whole(fleet.size - 1, SETTLE_WITHIN_MS).catch(() => {});
      if (name === 'kill') break;
    }
    return figures;
  } finally {
    await fleet.close();
  }
}

/**
 * `npm run bench simulation`: what the gossip room does at 200 to 2,000 hosts, by test/sim/mesh-sim.ts. BENCH_SIMULATION_N: sizes, default
 * `200,500,1000,2000`. Each part of a size has a process of its own; times are of the simulated clock, CPU time is what the part cost here.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** Parts of a size, one process each: a mesh of 2,000 hosts takes up to 5 GB. */
const PARTS = ['cold', 'calm', 'loss', 'stall', 'tenth', 'partition', 'memory'] as const;
export type Part = (typeof PARTS)[number];

const OPTIONS = ['--max-semi-space-size=64', '--max-old-space-size=6000', '--expose-gc', '--no-warnings'];

export async function run(say: (line: string) => void): Promise<object> {
  const sizes = (process.env.BENCH_SIMULATION_N ?? '200,500,1000,2000').split(',').map(Number);
  const figures: Record<string, Record<string, unknown>> = {};
  for (const size of sizes)
    for (const part of PARTS) {
      const result = await measure(part, size);
      figures[`N=${size}`] = { ...figures[`N=${size}`], [part]: result };
      say(`N=${size} ${part}: ${JSON.stringify(result)}`);
    }
  return figures;
}

async function measure(part: Part, size: number): Promise<unknown> {
  const program = new URL('./simulation-part.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [...OPTIONS, program, part, String(size)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const code = new Promise<number | null>((done) => child.on('close', done));
  let last = '';
  for await (const line of createInterface({ input: child.stdout })) last = line;
  return (await code) === 0 ? JSON.parse(last) : { failed: `exit status ${await code}` };
}

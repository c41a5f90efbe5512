/** Two network namespaces of the bench's own, joined by a pair of veth, that can be cut and joined again. Needs root. */
import { execFileSync } from 'node:child_process';

export interface Network {
  /** Runs a command inside a side: the words before it. */
  inside(side: Side): readonly string[];
  /** Address number `n` of a side. */
  address(side: Side, n: number): string;
  /** Bytes sent over all interfaces of both sides since they are there. */
  bytes(): number;
  /** Nothing passes between the sides any more, without a word to either. */
  cut(): void;
  join(): void;
  close(): void;
}

export type Side = 'a' | 'b';
const SIDES: readonly Side[] = ['a', 'b'];

/** Namespaces `NAME-a` and `NAME-b` with `count` addresses each, of 10.77.0.0/16. */
export function createNetwork(name: string, count: number): Network {
  const space = (side: Side) => `${name}-${side}`;
  const ip = (args: readonly string[], input?: string) =>
    execFileSync('ip', args, { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] });
  const inside = (side: Side) => ['ip', 'netns', 'exec', space(side)];
  const address = (side: Side, n: number) => `10.77.${side === 'a' ? 0 : 100 + Math.floor(n / 250)}.${1 + (n % 250)}`;
  const run = (side: Side, ...command: string[]) => {
    const [program = '', ...args] = [...inside(side), ...command];
    return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  };
  const close = () => {
    for (const side of SIDES)
      try {
        ip(['netns', 'del', space(side)]);
      } catch {
        // not there
      }
  };
  close();
  for (const side of SIDES) ip(['netns', 'add', space(side)]);
  ip(['-n', space('a'), 'link', 'add', 'other', 'type', 'veth', 'peer', 'name', 'other', 'netns', space('b')]);
  for (const side of SIDES) {
    const lines = ['link set lo up', 'link set other up'];
    for (let n = 0; n < count; n++) lines.push(`addr add ${address(side, n)}/16 dev other`);
    ip(['-n', space(side), '-batch', '-'], `${lines.join('\n')}\n`);
  }
  return {
    inside,
    address,
    bytes: () => SIDES.reduce((sum, side) => sum + sent(run(side, 'cat', '/proc/net/dev')), 0),
    cut() {
      run('b', 'nft', 'add table inet cut');
      for (const [hook, name] of [
        ['input', 'iifname'],
        ['output', 'oifname'],
      ] as const) {
        run('b', 'nft', `add chain inet cut ${hook} { type filter hook ${hook} priority 0; }`);
        run('b', 'nft', `add rule inet cut ${hook} ${name} other drop`);
      }
    },
    join: () => void run('b', 'nft', 'delete table inet cut'),
    close,
  };
}

/** Sum of the bytes that interfaces have sent. proc(5): the ninth number of a line. */
function sent(text: string): number {
  return text
    .split('\n')
    .flatMap((line) => /^\s*\w+:\s*(.*)$/.exec(line)?.[1] ?? [])
    .reduce((sum, numbers) => sum + Number(numbers.trim().split(/\s+/)[8]), 0);
}

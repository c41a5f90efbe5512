/** Part 9, the end: somebody takes the dead controller's place, with its addresses and its certificate, and serves what it likes. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { objectKey } from '../../../api/resources/object.ts';
import { OBJECT_PREFIX } from '../../../api/signed-config/layout.ts';
import { statePaths } from '../../../controller/state-dir.ts';
import { pathsOf } from '../lab/paths.ts';
import { PORTS, TRUST_DOMAIN } from '../lab/plan.ts';
import { killAgents, untilReady } from './agents.ts';
import { forgeObject } from './forge.ts';
import { check } from './run.ts';
import { nodeOf } from './topology.ts';
import { HOST_NODE, HOSTS, onHost, type World } from './world.ts';

/** Full updates that the agent of `host` keeps on disk, newest first. */
function keptUpdates(host: string): string[] {
  const dir = join(pathsOf(host).stateDir, 'config');
  const numbers = readdirSync(dir).flatMap((name) => /^generation-(\d+)\.json$/.exec(name)?.[1] ?? []);
  return numbers
    .map(Number)
    .sort((a, b) => b - a)
    .map((number) => readFileSync(join(dir, `generation-${number}.json`), 'utf8'));
}

const REFUSALS = {
  forged: /config refused: CONFIG_(BAD_SIGNATURE|THRESHOLD): .*/,
  'rolled-back': /config refused: CONFIG_ROLLBACK: .*/,
} as const;
type Kind = keyof typeof REFUSALS;

/** What each agent says of each kind, once all have said it; the last refusal is what a status shows. */
async function untilAllNamed(world: World): Promise<Record<Kind, string>> {
  const kinds = Object.keys(REFUSALS) as Kind[];
  const said = new Map<string, string>();
  await world.until(
    async () => {
      for (const host of HOSTS) {
        const problems = (await world.agentStatus(host).catch(() => undefined))?.problems ?? [];
        for (const kind of kinds)
          for (const line of problems) if (REFUSALS[kind].test(line)) said.set(`${host} ${kind}`, line);
      }
      return said.size === HOSTS.length * kinds.length;
    },
    () => `each agent names a forged and a rolled-back config; so far ${[...said.keys()].join(', ')}`,
    60_000,
  );
  return { forged: said.get('a forged') ?? '', 'rolled-back': said.get('a rolled-back') ?? '' };
}

/** mTLS to reviews switched off. */
const open = (object: unknown) => ({
  ...(object as object),
  spec: { host: 'reviews', trafficPolicy: { tls: { mode: 'DISABLE' } } },
});

/**
 * With the controller dead: a forged config (on its IPv4 address) and a rolled-back one (on IPv6) are refused by every agent, and named; agents
 * that start anew meet nobody else; traffic goes on.
 */
export async function tamperedConfig(world: World, note: (line: string) => void): Promise<void> {
  const kept = keptUpdates('a');
  const [newest, oldest] = [kept[0], kept.at(-1)];
  check(
    newest !== undefined && oldest !== undefined && newest !== oldest,
    'the agent of a keeps no earlier generation',
  );
  const { ip4, ip6 } = nodeOf('ctl1');
  const key = `${OBJECT_PREFIX}${objectKey('DestinationRule', 'default', 'reviews')}`;
  const served: readonly (readonly [address: string, update: string])[] = [
    [ip4, forgeObject(newest, key, open)],
    [ip6, oldest],
  ];
  const files = served.flatMap(([address, update], i) => {
    const file = join(world.temp, `served-${i}.json`);
    writeFileSync(file, update);
    return [address, file];
  });
  const args = [statePaths(pathsOf('ctl1').stateDir).ca, 'c1', TRUST_DOMAIN, String(PORTS.agents), ...files];
  const program = [HOST_NODE, onHost('scripts/lib/demo/impostor.ts'), ...args];
  const before = await world.agentStatus('a');
  const impostor = await world.start('ctl1', undefined, program, /in place/);
  const started = await killAgents(world, HOSTS);
  const { forged, 'rolled-back': rolledBack } = await untilAllNamed(world);
  await untilReady(world, HOSTS, started);
  const { status } = await world.curl('a', 'hm-client', 'http://reviews:9080/');
  check(status === 200, `a request got ${status} while an impostor is in the place of the controller`);
  const after = await world.agentStatus('a');
  check(after.generation === before.generation, `a went from generation ${before.generation} to ${after.generation}`);
  note(`mTLS switched off by a forged config: ${forged}`);
  note(`an earlier generation, genuine: ${rolledBack}`);
  note('three agents started while it was served: each refused both and serves from its last verified config');
  await impostor.finish();
}

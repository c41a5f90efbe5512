/** Part 9, the end: somebody takes the dead controller's place, with its address and its certificate, and serves what it likes. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { objectKey } from '../../../api/resources/object.ts';
import { OBJECT_PREFIX } from '../../../api/signed-config/layout.ts';
import { statePaths } from '../../../controller/state-dir.ts';
import { pathsOf } from '../lab/paths.ts';
import { PORTS, TRUST_DOMAIN } from '../lab/plan.ts';
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

async function allName(world: World, code: RegExp, what: string): Promise<string> {
  let words: readonly string[] = [];
  await world.until(
    async () => {
      const all = await Promise.all(HOSTS.map((host) => world.agentStatus(host)));
      words = all.map(({ problems }) => problems.find((line) => code.test(line)) ?? '');
      return words.every((line) => line !== '');
    },
    () => `every agent names the ${what} config: ${words.join(' | ')}`,
    20_000,
  );
  return words[0] ?? '';
}

async function stillServed(world: World, when: string): Promise<void> {
  const { status } = await world.curl('a', 'hm-client', 'http://reviews:9080/');
  check(status === 200, `${when}: a request got ${status}`);
}

/** With the controller dead: a forged and a rolled-back config are refused by every agent, and named; traffic goes on. */
export async function tamperedConfig(world: World, note: (line: string) => void): Promise<void> {
  const kept = keptUpdates('a');
  const [newest, oldest] = [kept[0], kept.at(-1)];
  check(
    newest !== undefined && oldest !== undefined && newest !== oldest,
    'the agent of a keeps no earlier generation',
  );
  const key = `${OBJECT_PREFIX}${objectKey('DestinationRule', 'default', 'reviews')}`;
  const open = (object: unknown) => ({
    ...(object as object),
    spec: { host: 'reviews', trafficPolicy: { tls: { mode: 'DISABLE' } } },
  });
  const file = join(world.temp, 'served.json');
  writeFileSync(file, forgeObject(newest, key, open));
  const { ip4 } = nodeOf('ctl1');
  const args = [statePaths(pathsOf('ctl1').stateDir).ca, 'c1', TRUST_DOMAIN, ip4, String(PORTS.agents), file];
  const impostor = await world.start(
    'ctl1',
    undefined,
    [HOST_NODE, onHost('scripts/lib/demo/impostor.ts'), ...args],
    /in place/,
  );
  const before = await world.agentStatus('a');
  const forged = await allName(world, /config refused: CONFIG_(BAD_SIGNATURE|THRESHOLD)/, 'forged');
  await stillServed(world, 'while a forged config is served');
  note(`mTLS switched off by a forged config: ${forged}`);
  writeFileSync(file, oldest);
  const rolled = await allName(world, /config refused: CONFIG_ROLLBACK/, 'rolled-back');
  await stillServed(world, 'while a rolled-back config is served');
  note(`an earlier generation, genuine: ${rolled}`);
  const after = await world.agentStatus('a');
  check(after.generation === before.generation, `a went from generation ${before.generation} to ${after.generation}`);
  await impostor.finish();
}

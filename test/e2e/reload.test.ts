// An agent reads agent.yaml again on SIGHUP: a bad file is refused, a new log level is used at once, the rest by a process started anew.
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import tap from 'tap';
import { must } from '../../scripts/lib/demo/run.ts';
import { createWorld, type World } from '../../scripts/lib/demo/world.ts';
import { pathsOf } from '../../scripts/lib/lab/paths.ts';

const TOPOLOGY = `controllers: 1
hosts:
  - name: a
    workloads:
      - {name: web, namespace: default, serviceAccount: web, labels: {app: web}, user: hm-web, ports: {http: 8080}}
`;

/** Process id of a's agent, or 0 between two. */
async function pidOf(world: World): Promise<number> {
  const { stdout } = await world.lab('status');
  return Number(/^a .*agent running \((\d+)\)/m.exec(stdout)?.[1] ?? 0);
}

tap.setTimeout(240_000);
tap.test('reload', async (t) => {
  const abort = new AbortController();
  const world = createWorld(abort.signal);
  t.teardown(async () => {
    await world.close();
    await createWorld(new AbortController().signal).lab('down');
  });
  const topology = join(world.temp, 'topology.yaml');
  writeFileSync(topology, TOPOLOGY);
  must(await world.lab('up', '--file', topology), 'scripts/lab up');
  const { config, logDir } = pathsOf('a');
  const good = readFileSync(config, 'utf8');
  const log = () => readFileSync(join(logDir, 'agent.log'), 'utf8');
  const reload = async () => {
    const pid = await pidOf(world);
    if (pid === 0) throw new Error('no agent runs'); // 0 would be this process and all beside it
    process.kill(pid, 'SIGHUP');
  };
  const before = await pidOf(world);

  writeFileSync(config, `${good}workload: []\n`);
  await reload();
  await world.until(() => /unknown key workload.*agent\.yaml is refused/.test(log()), 'the refusal in the log', 20_000);
  t.equal(await pidOf(world), before, 'a bad file changes nothing');

  writeFileSync(config, `${good}logLevel: debug\n`);
  await reload();
  await world.until(() => /"log_level":"debug"/.test(log()), 'the new level in the log', 20_000);
  t.equal(await pidOf(world), before, 'a new log level needs no new process');

  writeFileSync(config, good);
  appendFileSync(config, 'locality: eu/a\n');
  await reload();
  await world.until(async () => ![0, before].includes(await pidOf(world)), 'another process', 30_000);
  await world.until(async () => (await world.agentStatus('a').catch(() => undefined))?.ready, 'it is ready', 40_000);
  t.match(
    readFileSync(join(pathsOf('a').stateDir, 'proxy/bootstrap.json'), 'utf8'),
    /"region": "eu"/,
    'with the new file',
  );
  t.equal(
    (await world.agentStatus('a')).workloads[0]?.health,
    'unhealthy',
    'and with its workloads: nobody serves 8080 here',
  );
});

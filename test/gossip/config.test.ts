/** Config by gossip, as it runs: a real signer and publish server, ten hosts with real controlplane and gossip rooms. */
import t from 'tap';
import { service, virtualService } from '../builders/signed-mesh.ts';
import { allHave, type ConfigMesh, createConfigMesh } from './config-mesh.ts';
import { sees, until } from './mesh.ts';

t.setTimeout(300_000);

async function whole(count: number, direct: number): Promise<ConfigMesh> {
  const config = await createConfigMesh(count, direct);
  const first = await config.signed.put(service('web'));
  for (let i = 0; i < count; i++) await config.add(`h${i}`);
  await allHave(config.hosts.values(), first, 20_000);
  const rooms = [...config.mesh.hosts.values()];
  await until(
    () => rooms.every((host) => rooms.every((other) => sees(host, other.host)) && links(host.gossip) >= 2),
    20_000,
  );
  return config;
}

const links = (gossip: { peers(): readonly { linked: boolean }[] }) => gossip.peers().filter((p) => p.linked).length;

t.test('a push goes to three hosts from the controller, to seven from peers, and loses nothing', async (t) => {
  const config = await whole(10, 3);
  t.teardown(() => config.stop());
  await settled(config);
  const before = config.served();
  const generation = await config.signed.put(virtualService('web'));
  const took = await allHave(config.hosts.values(), generation, 10_000);
  const carriers = [...config.hosts.values()].map((host) => host.carriers.get(generation));
  const direct = carriers.filter((carrier) => carrier === 'controller').length;
  t.ok(direct >= 1 && direct <= 4, `${direct} of 10 from the controller`);
  t.equal(carriers.filter((carrier) => carrier?.startsWith('h')).length, 10 - direct, 'the others from peers');
  t.ok(took < 1000, `before the controller asks the others to ask again: ${Math.round(took)} ms`);
  await settled(config);
  const after = config.served();
  t.ok(after.bodies - before.bodies <= 4, `${after.bodies - before.bodies} answers with a body`);
});

t.test('a side without a controller catches up from peers, a host that missed the announcement too', async (t) => {
  const config = await whole(5, 3);
  t.teardown(() => config.stop());
  config.cut(['h2', 'h3', 'h4']);
  const generation = await config.signed.put(virtualService('web'));
  await allHave(config.hosts.values(), generation, 10_000);
  t.same(
    ['h2', 'h3', 'h4'].map((host) => config.hosts.get(host)?.carriers.get(generation)?.startsWith('h')),
    [true, true, true],
  );
  // What was announced before it came is asked for: after 10 s without a controller.
  config.mesh.config((grants) =>
    grants.hosts.set('h5', { ...grants.hosts.get('h4')!, host: 'h5', gossipAddresses: [] }),
  );
  config.cut(['h5']);
  const late = await config.add('h5', { overGossip: false });
  await until(() => late.plane.current()?.generation === generation, 20_000);
  t.ok(late.carriers.get(generation)?.startsWith('h'));
});

t.test('a peer that announces and serves nothing, slowly or junk costs one bounded wait', async (t) => {
  const config = await whole(6, 1);
  t.teardown(() => config.stop());
  const liars = ['h0', 'h1', 'h2'];
  const answers: Record<string, () => Promise<Uint8Array>> = {
    h0: () => Promise.reject(new Error('nothing')),
    h1: () => new Promise(() => {}),
    h2: async () => Buffer.from('{"format":1,"roots":[],"timestamp":"junk"}'),
  };
  for (const liar of liars) config.mesh.hosts.get(liar)!.gossip.serveConfig(answers[liar]!);
  // One honest host reaches the controller, which serves one of four at once, mostly a liar; two reach only peers.
  config.cut(['h4', 'h5']);
  for (let round = 0; round < 3; round++) {
    const generation = await config.signed.put(virtualService('web', String(round)));
    const honest = ['h3', 'h4', 'h5'].map((host) => config.hosts.get(host)!);
    const took = await allHave(honest, generation, 20_000);
    t.ok(took < 8000, `round ${round}: ${Math.round(took)} ms`);
    for (const host of honest) t.notMatch(host.carriers.get(generation), /h[012]/);
  }
});

/** Every host waits at the controller with what it holds: the answers of the last push are over. */
async function settled(config: ConfigMesh): Promise<void> {
  let last = config.served();
  let since = performance.now();
  await until(() => {
    const now = config.served();
    if (now.bodies !== last.bodies || now.empty !== last.empty) since = performance.now();
    last = now;
    return performance.now() - since > 2200;
  }, 20_000);
}

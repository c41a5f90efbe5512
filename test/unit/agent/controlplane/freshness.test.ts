/** DESIGN 6, Freshness: who holds news back from a host, and for how long at most. Real planes and signatures, an injected clock. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { createConfigCache } from '../../../../agent/controlplane/cache.ts';
import { type Controlplane, createControlplane } from '../../../../agent/controlplane/controlplane.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createSignedMesh, type SignedMesh, service, virtualService } from '../../../builders/signed-mesh.ts';

const MINUTE = 60_000;
const LIARS = ['n1', 'n2', 'n3', 'n4'];
const FAR = ['f1', 'f2', 'f3', 'f4', 'f5', 'f6'];

async function plane(
  t: Test,
  mesh: SignedMesh,
  name: string,
  config: Parameters<typeof createControlplane>[0]['client']['config'],
  peers: Pick<Parameters<typeof createControlplane>[0], 'fetchFromPeer' | 'members'> = {},
): Promise<Controlplane> {
  // Not to stable storage: while a busy disk is waited for, minutes of the injected clock pass.
  const cache = createConfigCache(join(mesh.dir, name), async (path, data) => writeFileSync(path, data));
  await cache.initialise(mesh.rootText);
  const made = createControlplane({
    cache,
    client: { config },
    controllers: () => ['https://c'],
    ...peers,
    clock: mesh.clock,
    random: () => 0.5,
    log: silentLogger,
  });
  t.teardown(() => made.stop());
  await made.start(new AbortController().signal);
  return made;
}

/** Fake time until `condition`, a second at a step so that whatever waits for IO gets it; ms that passed, or undefined after `limitMs`. */
async function passes(mesh: SignedMesh, limitMs: number, condition: () => boolean): Promise<number | undefined> {
  for (let ms = 0; ms <= limitMs; ms += 1000) {
    if (condition()) return ms;
    await mesh.clock.advance(1000);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return condition() ? limitMs : undefined;
}

/** A host whose four neighbours deny that there is anything newer; the members beyond them are honest, unless `far` is false. */
async function besieged(t: Test, controller: 'gone' | 'lies', far: boolean) {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  await mesh.put(service('web'));
  const honest = await plane(t, mesh, 'honest', async (_url, held, waitSeconds, signal) => {
    const text = mesh.signer.history.updateFor(held);
    if (text !== undefined) return Buffer.from(text);
    await pause(mesh, Math.min(waitSeconds, 5) * 1000, signal);
    return undefined;
  });
  const asked = new Map<string, number>();
  let lying = false;
  const victim = await plane(
    t,
    mesh,
    'victim',
    async (_url, held, waitSeconds, signal) => {
      if (!lying) return Buffer.from(mesh.signer.history.updateFor(held) ?? '');
      if (controller === 'gone') throw new Error('connect ECONNREFUSED');
      await pause(mesh, waitSeconds * 1000, signal);
      return undefined;
    },
    {
      members: () => [
        ...LIARS.map((host) => ({ host, linked: true })),
        ...FAR.map((host) => ({ host, linked: false })),
      ],
      async fetchFromPeer(peer, request) {
        asked.set(peer, (asked.get(peer) ?? 0) + 1);
        if (LIARS.includes(peer) || !far) throw new Error('nothing newer');
        return honest.serve(request);
      },
    },
  );
  await passes(mesh, MINUTE, () => victim.current() !== undefined && honest.current() !== undefined);
  lying = true;
  const generation = await mesh.put(virtualService('web'));
  return { mesh, victim, asked, generation };
}

function pause(mesh: SignedMesh, ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    mesh.clock.after(Math.max(ms, 1000), resolve);
    signal?.addEventListener('abort', () => resolve(), { once: true });
  });
}

t.test('no controller, and all four neighbours deny news: members beyond them are asked within minutes', async (t) => {
  const { mesh, victim, asked, generation } = await besieged(t, 'gone', true);
  const took = await passes(mesh, 5 * MINUTE, () => victim.current()?.generation === generation);
  t.ok(took !== undefined && took <= 3 * MINUTE, `known after ${(took ?? 0) / 1000} s`);
  t.ok([...asked.keys()].some((peer) => FAR.includes(peer)));
  t.notOk(victim.status().stale);
});

t.test('the controller and all four neighbours deny news: noticed by its age, long before the alarm', async (t) => {
  const { mesh, victim, generation } = await besieged(t, 'lies', true);
  const took = await passes(mesh, 15 * MINUTE, () => victim.current()?.generation === generation);
  t.ok(took !== undefined && took <= 9 * MINUTE, `known after ${(took ?? 0) / 1000} s`);
});

t.test('everybody denies news: an alarm after 15 minutes, and the last verified config stays in use', async (t) => {
  const { mesh, victim, asked } = await besieged(t, 'lies', false);
  const before = victim.current();
  t.notOk(victim.status().stale);
  const took = await passes(mesh, 17 * MINUTE, () => victim.status().stale);
  t.ok(took !== undefined && took >= 14 * MINUTE && took <= 16 * MINUTE, `stale after ${(took ?? 0) / 1000} s`);
  t.match(victim.status().problems.join(), /config is stale/);
  t.equal(victim.current(), before);
  t.ok(
    FAR.every((peer) => (asked.get(peer) ?? 0) <= 20),
    'nobody is asked in a hurry',
  );
});

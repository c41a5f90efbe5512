import { readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { createConfigCache } from '../../../../agent/controlplane/cache.ts';
import type { ControllerClient } from '../../../../agent/controlplane/client.ts';
import { type Controlplane, createControlplane } from '../../../../agent/controlplane/controlplane.ts';
import type { UpdateRequest } from '../../../../api/signed-config/update.ts';
import { writeFileAtomic } from '../../../../runtime/atomic-file.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createSignedMesh, type SignedMesh, service, virtualService } from '../../../builders/signed-mesh.ts';
import { until } from '../../../fakes/until.ts';

/** The parts of an update that the tests tamper with. */
interface Wire {
  timestamp: string;
  snapshot: string;
  policy: string;
  heads: { policy: string };
  content: { policy: { set: Record<string, { spec?: unknown }> } };
}

type Answer = (held: UpdateRequest) => Promise<string | undefined> | string | undefined;

/** Controllers by URL; each answer is what that server makes up. Waits as a long poll does when there is nothing. */
function fakeClient(
  mesh: SignedMesh,
  servers: Record<string, Answer>,
): Pick<ControllerClient, 'config'> & { asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    async config(url, held, waitSeconds, signal) {
      asked.push(url);
      const answer = servers[url];
      if (answer === undefined) throw new Error('connect ECONNREFUSED');
      const text = await answer(held);
      if (text !== undefined) return Buffer.from(text);
      if (waitSeconds > 0)
        await new Promise<void>((resolve) => {
          const done = mesh.signer.onPublished(() => resolve());
          signal?.addEventListener('abort', () => resolve());
          mesh.clock.after(waitSeconds * 1000, resolve);
          t.teardown(() => done());
        });
      const later = await answer(held);
      return later === undefined ? undefined : Buffer.from(later);
    },
  };
}

interface Host {
  readonly plane: Controlplane;
  readonly dir: string;
  readonly generations: number[];
}

async function host(
  t: Tap.Test,
  mesh: SignedMesh,
  servers: Record<string, Answer>,
  options: { dir?: string; write?: typeof writeFileAtomic } = {},
): Promise<Host> {
  const dir = options.dir ?? join(mesh.dir, `host-${Math.random().toString(36).slice(2)}`);
  const cache = createConfigCache(dir, options.write);
  if (options.dir === undefined) await createConfigCache(dir).initialise(mesh.rootText);
  const plane = createControlplane({
    cache,
    client: fakeClient(mesh, servers),
    controllers: () => Object.keys(servers),
    clock: mesh.clock,
    random: () => 0.5,
    log: silentLogger,
  });
  const generations: number[] = [];
  plane.onAccepted((desired) => generations.push(desired.generation));
  t.teardown(() => plane.stop());
  await plane.start(new AbortController().signal);
  return { plane, dir, generations };
}
declare namespace Tap {
  type Test = { teardown(fn: () => unknown): void };
}

const honest =
  (mesh: SignedMesh): Answer =>
  (held) =>
    mesh.signer.history.updateFor(held);

async function meshOf(t: { testdir(): string; teardown(fn: () => unknown): void }): Promise<SignedMesh> {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  await mesh.put(service('web'));
  return mesh;
}

/** Lets timers of the fake clock run until `condition` holds. */
async function advanceUntil(mesh: SignedMesh, condition: () => boolean, what: string): Promise<void> {
  await until(async () => {
    if (condition()) return true;
    await mesh.clock.advance(100);
    return condition();
  }, what);
}

t.test('a new host gets everything, then deltas; a reboot needs no controller, whatever the clock says', async (t) => {
  const mesh = await meshOf(t);
  const { plane, dir, generations } = await host(t, mesh, { a: honest(mesh) });
  await until(() => plane.current() !== undefined, 'the first config');
  const generation = await mesh.put(virtualService('web'));
  await until(() => plane.current()?.generation === generation, 'the delta');
  t.same(generations.slice(-1), [generation]);
  t.ok(plane.current()?.objects.has('VirtualService/default/web'));
  t.same(plane.status().problems, []);
  await plane.stop();
  mesh.clock.set(mesh.clock.now() + 30 * 86_400_000);
  const again = await host(t, mesh, {}, { dir });
  t.equal(again.plane.current()?.generation, generation);
  t.equal(again.plane.status().stale, true);
  t.match(again.plane.status().problems.join(), /stale: last timestamp 43200 min ago by this host's clock; /);
  mesh.clock.set(mesh.clock.now() - 32 * 86_400_000);
  t.match(again.plane.status().problems.join(), /this host's clock is 2880 min behind the signed config's; set it/);
  for (const file of await readdir(dir)) t.equal((await stat(join(dir, file))).mode & 0o777, 0o600, file);
});

t.test('hostile controllers: each is refused by name, nothing changes, and the honest one is reached', async (t) => {
  const mesh = await meshOf(t);
  const old = mesh.signer.history.updateFor({ root: 1, generation: 0, timestamp: 0 }) as string;
  await mesh.put(virtualService('web'));
  const now = mesh.signer.history.updateFor({ root: 1, generation: 0, timestamp: 0 }) as string;
  const edit = (text: string, change: (update: Wire) => void) => {
    const update = JSON.parse(text);
    change(update);
    return JSON.stringify(update);
  };
  const oldUpdate = JSON.parse(old);
  const foreign = await createSignedMesh(`${t.testdir({ other: {} })}/other`);
  t.teardown(() => foreign.close());
  await foreign.put(virtualService('evil'));
  const cases: Record<string, [string, string]> = {
    'an object changed': [
      'CONFIG_ROOT_MISMATCH',
      edit(now, (u) => {
        u.content.policy.set['object/VirtualService/default/web'] = { spec: {} };
      }),
    ],
    'an object left out': [
      'CONFIG_ROOT_MISMATCH',
      edit(now, (u) => {
        delete u.content.policy.set['object/VirtualService/default/web'];
      }),
    ],
    'another mesh': [
      'CONFIG_BAD_SIGNATURE',
      foreign.signer.history.updateFor({ root: 1, generation: 0, timestamp: 0 }) as string,
    ],
    'rolled back': ['CONFIG_ROLLBACK', old],
    'mixed: an old snapshot': [
      'CONFIG_MIX',
      edit(now, (u) => {
        u.snapshot = oldUpdate.snapshot;
      }),
    ],
    'mixed: an old role': [
      'CONFIG_MIX',
      edit(now, (u) => {
        u.policy = oldUpdate.policy;
        u.heads.policy = oldUpdate.heads.policy;
      }),
    ],
    'an edited head': [
      'CONFIG_MIX',
      edit(now, (u) => {
        u.heads.policy = u.heads.policy.replace(/"count":\d+/, '"count":9');
      }),
    ],
    'a signed file edited': [
      'CONFIG_BAD_SIGNATURE',
      edit(now, (u) => {
        u.timestamp = u.timestamp.replace(/"version":\d+/, '"version":999999');
      }),
    ],
    'cut off': ['CONFIG_MALFORMED', now.slice(0, -50)],
    junk: ['CONFIG_MALFORMED', '{"format":1,"roots":[],"timestamp":{}}'],
    'too large': ['CONFIG_TOO_LARGE', `"${'x'.repeat(17 * 1024 * 1024)}"`],
  };
  for (const [name, [code, text]] of Object.entries(cases)) {
    const good = await host(t, mesh, {});
    await good.plane.offer(Buffer.from(name === 'rolled back' ? now : old), 'seed');
    const before = good.plane.current();
    await good.plane.offer(Buffer.from(text), 'mallory');
    t.equal(good.plane.status().lastRefusal?.code, code, name);
    t.equal(good.plane.status().lastRefusal?.from, 'mallory');
    t.equal(good.plane.current(), before, `${name}: nothing changed`);
    await good.plane.offer(Buffer.from(now), 'honest');
    t.ok(good.plane.current()?.objects.has('VirtualService/default/web'), `${name}: the honest answer is taken`);
    if (name !== 'rolled back') t.equal(good.plane.status().lastRefusal, undefined, `${name}: and ends the complaint`);
    await good.plane.stop();
  }
  const { plane } = await host(t, mesh, {
    mallory: () => cases['an object changed']?.[1],
    dead: () => Promise.reject(new Error('dead')),
    b: honest(mesh),
  });
  await advanceUntil(mesh, () => plane.current() !== undefined, 'the honest controller');
  t.equal(plane.status().controller, 'b');
});

t.test(
  'frozen: a controller that holds back news is noticed within 15 minutes, and a replay is refused after it expired',
  async (t) => {
    const mesh = await meshOf(t);
    const frozen = mesh.signer.history.updateFor({ root: 1, generation: 0, timestamp: 0 }) as string;
    const { plane } = await host(t, mesh, { a: (held) => (held.generation === 0 ? frozen : undefined) });
    await until(() => plane.current() !== undefined, 'the first config');
    t.equal(plane.status().stale, false);
    await mesh.clock.advance(15 * 60_000 + 1000);
    t.equal(plane.status().stale, true);
    t.ok(plane.current() !== undefined, 'what is verified stays in use');
    await mesh.clock.advance(3_600_000);
    const late = await host(t, mesh, { a: () => frozen });
    await until(() => late.plane.status().lastRefusal !== undefined, 'a refusal');
    t.match(late.plane.status().lastRefusal, { code: 'CONFIG_EXPIRED', message: /this clock says/ });
    t.equal(late.plane.current(), undefined);
  },
);

t.test('equivocation: two sets under one number alarm; the first is kept', async (t) => {
  const mesh = await meshOf(t);
  const { plane } = await host(t, mesh, {});
  const first = mesh.signer.history.updateFor({ root: 1, generation: 0, timestamp: 0 }) as string;
  await plane.offer(Buffer.from(first), 'a');
  // A stolen online key signs another timestamp that names another snapshot of the same number.
  const { buildTimestamp } = await import('../../../../controller/signing/metadata.ts');
  const { loadSigningKeys } = await import('../../../../controller/signing/init.ts');
  const { online } = await loadSigningKeys(mesh.keysDir, 'c1');
  const now = mesh.clock.now();
  const generation = mesh.signer.status().generation;
  const forged = {
    version: 50,
    expires: now + 60_000,
    signedAt: now,
    snapshot: { text: 'another', version: generation },
  };
  const timestamp = buildTimestamp(forged, [online]);
  t.equal(plane.judgeAnnouncement(Buffer.from(timestamp), 'peer'), 'ignore');
  t.equal(await plane.offer(Buffer.from(JSON.stringify({ format: 1, roots: [], timestamp })), 'b'), 'ignore');
  t.match(plane.status().problems.join(), /CONFIG_EQUIVOCATION/);
  t.equal(plane.current()?.generation, generation);
  await mesh.put(virtualService('web'));
  await plane.offer(Buffer.from(mesh.signer.history.updateFor({ root: 1, generation, timestamp: 1 }) as string), 'a');
  t.match(plane.status().problems.join(), /CONFIG_EQUIVOCATION/, 'the alarm stays');
  t.ok((plane.current()?.generation ?? 0) > generation, 'and the next generation is taken');
});

t.test(
  'disk full: the change is refused with its cause, what was there stays, and it is taken when there is room',
  async (t) => {
    const mesh = await meshOf(t);
    let full = false;
    const write: typeof writeFileAtomic = async (path, data, mode) => {
      if (full) throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
      await writeFileAtomic(path, data, mode);
    };
    const { plane, dir } = await host(t, mesh, { a: honest(mesh) }, { write });
    await until(() => plane.current() !== undefined, 'the first config');
    const before = plane.current();
    full = true;
    await mesh.put(virtualService('web'));
    await advanceUntil(mesh, () => plane.status().lastRefusal !== undefined, 'the refusal');
    t.match(plane.status().problems.join(), /CONFIG_NOT_PERSISTED.*ENOSPC/);
    t.equal(plane.current(), before);
    const copy = await host(t, mesh, {}, { dir });
    t.equal(copy.plane.current()?.generation, before?.generation, 'the files are whole');
    full = false;
    await advanceUntil(mesh, () => plane.current() !== before, 'the change');
    t.same(plane.status().problems, []);
  },
);

t.test(
  'damaged state: the previous good generation is used, old news stays refused, controllers repair it',
  async (t) => {
    const mesh = await meshOf(t);
    const first = mesh.signer.history.updateFor({ root: 1, generation: 0, timestamp: 0 }) as string;
    const { plane, dir } = await host(t, mesh, { a: honest(mesh) });
    await until(() => plane.current() !== undefined, 'the first config');
    const older = plane.current()?.generation ?? 0;
    const newest = await mesh.put(virtualService('web'));
    await until(() => plane.current()?.generation === newest, 'the second');
    await plane.stop();
    await truncate(join(dir, `generation-${newest}.json`), 100);
    const fallen = await host(t, mesh, {}, { dir });
    t.equal(fallen.plane.current()?.generation, older);
    t.match(
      fallen.plane.status().problems.join(),
      new RegExp(`CONFIG_STATE_LOST: generation ${newest} is not readable; generation ${older} is in use`),
    );
    await fallen.plane.offer(Buffer.from(first), 'mallory');
    t.equal(fallen.plane.status().lastRefusal?.code, 'CONFIG_ROLLBACK', 'what the lost one knew still binds');
    await fallen.plane.stop();
    const repaired = await host(t, mesh, { a: honest(mesh) }, { dir });
    await until(() => repaired.plane.current()?.generation === newest, 'the repair');
    t.same(repaired.plane.status().problems, []);
    await repaired.plane.stop();
    await writeFile(join(dir, 'trusted.json'), '');
    const untrusted = await host(t, mesh, {}, { dir });
    t.equal(untrusted.plane.current()?.generation, newest, 'a generation carries its own roots');
    await untrusted.plane.stop();
    for (const file of await readdir(dir)) if (file.startsWith('generation')) await rm(join(dir, file));
    await t.rejects(host(t, mesh, { a: honest(mesh) }, { dir }), {
      code: 'CONFIG_STATE_LOST',
      message: /join the host again/,
    });
  },
);

t.test(
  'a crash between the writes: after each write the folder loads, and never an older generation than before',
  async (t) => {
    const mesh = await meshOf(t);
    const seed = await host(t, mesh, { a: honest(mesh) });
    await until(() => seed.plane.current() !== undefined, 'the first config');
    await seed.plane.stop();
    const before = seed.plane.current()?.generation ?? 0;
    const newest = await mesh.put(virtualService('web'));
    const update = Buffer.from(mesh.signer.history.updateFor({ root: 1, generation: 0, timestamp: 0 }) as string);
    for (const dieAt of [0, 1]) {
      let writes = 0;
      const write: typeof writeFileAtomic = async (path, data, mode) => {
        if (writes++ === dieAt) throw new Error('killed');
        await writeFileAtomic(path, data, mode);
      };
      const { plane } = await host(t, mesh, {}, { dir: seed.dir, write });
      await plane.offer(update, 'a');
      await plane.stop();
      const after = await host(t, mesh, {}, { dir: seed.dir });
      t.equal(after.plane.current()?.generation, dieAt === 0 ? before : newest, `died at write ${dieAt}`);
      t.same(after.plane.status().problems, []);
      await after.plane.stop();
    }
  },
);

t.test(
  'a peer was faster than the controller that is waited at: what is missing then is asked for, not everything',
  async (t) => {
    const mesh = await meshOf(t);
    const asked: UpdateRequest[] = [];
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const cache = createConfigCache(join(mesh.dir, 'host'));
    await cache.initialise(mesh.rootText);
    const plane = createControlplane({
      cache,
      client: {
        async config(_url, held, _wait, signal) {
          asked.push(held);
          if (asked.length === 2) await gate;
          if (asked.length > 3) await new Promise((resolve) => signal?.addEventListener('abort', resolve));
          const text = mesh.signer.history.updateFor(held);
          return text === undefined ? undefined : Buffer.from(text);
        },
      },
      controllers: () => ['a'],
      clock: mesh.clock,
      random: () => 0.5,
      log: silentLogger,
    });
    t.teardown(() => plane.stop());
    await plane.start(new AbortController().signal);
    await until(() => asked.length === 2, 'the host to wait');
    const first = await mesh.put(virtualService('web', 'one'));
    t.equal(
      await plane.offer(Buffer.from(mesh.signer.history.updateFor(asked[1] as UpdateRequest) ?? ''), 'peer'),
      'accept',
    );
    const second = await mesh.put(virtualService('web', 'two'));
    open();
    await until(() => plane.current()?.generation === second, 'the second change');
    t.same(
      asked.slice(0, 3).map(({ generation }) => generation),
      [0, asked[1]?.generation, first],
    );
  },
);

t.test('five generations stay on disk', async (t) => {
  const mesh = await meshOf(t);
  const { plane, dir } = await host(t, mesh, { a: honest(mesh) });
  for (let i = 0; i < 8; i++) {
    const generation = await mesh.put(virtualService('web', String(i)));
    await until(() => plane.current()?.generation === generation, 'each');
  }
  await plane.stop();
  t.equal((await readdir(dir)).filter((file) => file.startsWith('generation')).length, 5);
  t.match(await readFile(join(dir, 'trusted.json'), 'utf8'), /"format":1/);
});

t.test('an announced timestamp is fetched from the peer that told it, and served on', async (t) => {
  const mesh = await meshOf(t);
  const source = await host(t, mesh, { a: honest(mesh) });
  await until(() => source.plane.current() !== undefined, 'the source');
  const dir = join(mesh.dir, 'peer');
  const cache = createConfigCache(dir);
  await cache.initialise(mesh.rootText);
  const plane = createControlplane({
    cache,
    client: { config: () => Promise.reject(new Error('no controller')) },
    controllers: () => ['x'],
    fetchFromPeer: (_peer, request) => source.plane.serve(request),
    clock: mesh.clock,
    random: () => 0.5,
    log: silentLogger,
  });
  await plane.start(new AbortController().signal);
  t.teardown(() => plane.stop());
  const told: Uint8Array[] = [];
  plane.onTimestamp((timestamp) => told.push(timestamp));
  const timestamp = Buffer.from(mesh.signer.latest()?.timestamp?.text ?? '');
  t.equal(plane.judgeAnnouncement(timestamp, 'source'), 'accept');
  await advanceUntil(mesh, () => plane.current() !== undefined, 'the fetch');
  t.equal(plane.current()?.generation, source.plane.current()?.generation);
  t.equal(plane.judgeAnnouncement(timestamp, 'source'), 'ignore');
  t.same(told, [timestamp], 'announced once');
  t.equal(plane.judgeAnnouncement(Buffer.from('junk'), 'mallory'), 'reject');
  t.equal(plane.judgeAnnouncement(Buffer.alloc(5000), 'mallory'), 'reject');
  await t.rejects(plane.serve(Buffer.from('{"root":-1}')), { code: 'CONFIG_MALFORMED' });
});

import { join } from 'node:path';
import type { MeshObject } from '../../api/resources/object.ts';
import { keyOf } from '../../api/resources/object.ts';
import { CAPABILITY } from '../../api/version.ts';
import { type InitOptions, initRepository, loadSigningKeys } from '../../controller/signing/init.ts';
import { createSigner, type Signer } from '../../controller/signing/signer.ts';
import { initSqliteStore, openSqliteStore, type SqliteStore } from '../../controller/store/sqlite.ts';
import { silentLogger } from '../../runtime/log.ts';
import { createFakeClock, type FakeClock } from '../fakes/fake-clock.ts';
import { until } from '../fakes/until.ts';

/** What tests pass to the verifier. */
export const optionsAt = (now: number | undefined) => ({ now, capability: CAPABILITY });

/** A real signer over a real store in `dir`, with a clock that the test moves. */
export interface SignedMesh {
  readonly dir: string;
  readonly keysDir: string;
  readonly store: SqliteStore;
  readonly clock: FakeClock;
  readonly rootText: string;
  readonly rootSha256: string;
  signer: Signer;
  /** Writes objects and waits for the generation that shows them. */
  put(...objects: readonly MeshObject[]): Promise<number>;
  remove(key: string): Promise<number>;
  /** Stops the signer and starts another on the same store, as a restart does. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export async function createSignedMesh(dir: string, options: Partial<InitOptions> = {}): Promise<SignedMesh> {
  const clock = createFakeClock();
  const keysDir = join(dir, 'keys');
  const path = join(dir, 'store.db');
  initSqliteStore(path);
  const store = openSqliteStore({ path });
  const made = await initRepository(store, { keysDir, replica: 'c1', now: clock.now(), ...options });
  const start = async (): Promise<Signer> => {
    const keys = await loadSigningKeys(keysDir, 'c1');
    const signer = createSigner({ store, keys, trustDomain: 'mesh.test', clock, random: () => 0.5, log: silentLogger });
    await signer.start(new AbortController().signal);
    return signer;
  };
  const commit = async (writes: { key: string; value: string | null }[]): Promise<number> => {
    const result = await store.commit(writes);
    if (!result.ok) throw new Error('the store refused a write');
    await until(() => mesh.signer.status().generation >= result.revision, `generation ${result.revision}`);
    return mesh.signer.status().generation;
  };
  const mesh: SignedMesh = {
    dir,
    keysDir,
    store,
    clock,
    rootText: made.rootText,
    rootSha256: made.rootSha256,
    signer: await start(),
    put: (...objects) => commit(objects.map((object) => ({ key: keyOf(object), value: JSON.stringify(object) }))),
    remove: (key) => commit([{ key, value: null }]),
    async restart() {
      await mesh.signer.stop();
      mesh.signer = await start();
    },
    async close() {
      await mesh.signer.stop();
      await store.close();
    },
  };
  return mesh;
}

/** A VirtualService of some 500 bytes; `note` makes it differ. */
export function virtualService(name: string, note = ''): MeshObject {
  return {
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name, namespace: 'default', annotations: { note } },
    spec: {
      hosts: [`${name}.default.svc.cluster.local`],
      http: [
        {
          route: [
            { destination: { host: `${name}.default.svc.cluster.local`, subset: 'v1' }, weight: 90 },
            { destination: { host: `${name}.default.svc.cluster.local`, subset: 'v2' }, weight: 10 },
          ],
        },
      ],
    },
  };
}

/** A Service with one HTTP port. */
export function service(name: string): MeshObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'default' },
    spec: { ports: [{ name: 'http', port: 80 }] },
  };
}

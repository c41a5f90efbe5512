import { setImmediate } from 'node:timers/promises';
import { analyzePushed, LOOKS_AT } from '../../api/resources/analysis/analyze.ts';
import { meshFacts } from '../../api/resources/analysis/model.ts';
import { exportDefaults } from '../../api/resources/export-to.ts';
import { clustersByNamespace, isSmall, SIZED_KINDS } from '../../api/resources/mesh-size.ts';
import { keyOf, type MeshObject } from '../../api/resources/object.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Store } from '../store/store.ts';
import { type Advice, adviseWithin, mayHearOf, mayKnowSecretsOf, mayRead } from './advice.ts';
import { objectOf } from './objects.ts';
import type { Principal } from './principals.ts';

/** One object of a transaction: what is stored under `key` after it. */
export interface Change {
  readonly key: string;
  readonly after: MeshObject | undefined;
}

/** Objects beside the rest of the mesh. */
export interface Neighbours {
  /** Clusters that each namespace asks of hosts' proxies, before and after; undefined when the changes bear on none. */
  clusters(
    changes: readonly Change[],
  ): Promise<{ readonly before: ReadonlyMap<string, number>; readonly after: ReadonlyMap<string, number> } | undefined>;
  /** Of objects as they are stored; those of a dry run count as stored too. Names nothing that the principal may not know of. */
  advise(objects: readonly MeshObject[], principal: Principal): Promise<Advice>;
}

/** Parsed objects are kept by key and revision: a write must not parse the whole mesh again. */
export function createNeighbours(store: Store, clock: Pick<Clock, 'monotonic'>): Neighbours {
  const kinds = new Map<string, Map<string, { readonly revision: number; readonly object: MeshObject }>>();

  async function load(kind: string): Promise<Map<string, MeshObject>> {
    const known = kinds.get(kind);
    const fresh = new Map<string, { revision: number; object: MeshObject }>();
    for (const entry of (await store.list(`${kind}/`)).entries) {
      const old = known?.get(entry.key);
      fresh.set(
        entry.key,
        old?.revision === entry.revision ? old : { revision: entry.revision, object: objectOf(entry) },
      );
    }
    kinds.set(kind, fresh);
    return new Map([...fresh].map(([key, { object }]) => [key, object]));
  }

  return {
    async clusters(changes) {
      const sized = changes.filter(({ key }) => SIZED_KINDS.includes(kindOf(key)));
      if (!sized.some(({ key, after }) => kindOf(key) !== 'VirtualService' || (after !== undefined && !isSmall(after))))
        return undefined;
      const mesh = new Map<string, Map<string, MeshObject>>();
      for (const kind of SIZED_KINDS) mesh.set(kind, await load(kind));
      const lookup = { list: (kind: string) => mesh.get(kind)?.values() ?? [] };
      const before = clustersByNamespace(lookup);
      for (const { key, after } of sized)
        if (after === undefined) mesh.get(kindOf(key))?.delete(key);
        else mesh.get(kindOf(key))?.set(key, after);
      return { before, after: clustersByNamespace(lookup) };
    },
    async advise(objects, principal) {
      const needed = new Set(objects.flatMap((object) => LOOKS_AT[object.kind] ?? []));
      if (needed.size === 0) return { warnings: new Map() };
      const listsSecrets = (namespace: string) => mayKnowSecretsOf(principal, namespace);
      if (!mayRead(principal)) {
        const alone = { where: 'among the objects of this push', listsSecrets };
        const advice = await adviseWithin(
          objects,
          (step) => {
            const facts = meshFacts(objects, false, { step, ...alone });
            return (object) => analyzePushed(object, facts);
          },
          clock,
        );
        return { ...advice, note: [advice.note, ALONE].filter((one) => one !== undefined).join('; ') };
      }
      needed.add('MeshConfig');
      const mesh = new Map<string, Map<string, MeshObject>>();
      for (const kind of needed) {
        mesh.set(kind, await load(kind));
        await setImmediate(); // a kind may have tens of thousands of objects
      }
      for (const object of objects) mesh.get(object.kind)?.set(keyOf(object), object);
      const defaults = exportDefaults(mesh.get('MeshConfig')?.values().next().value);
      return await adviseWithin(
        objects,
        (step) => {
          const hears = mayHearOf(principal, defaults, step);
          const heard: MeshObject[] = [];
          for (const kind of mesh.values()) {
            for (const object of kind.values()) {
              step();
              if (hears(object)) heard.push(object);
            }
          }
          const facts = meshFacts(heard, true, { step, listsSecrets });
          return (object) => analyzePushed(object, facts);
        },
        clock,
      );
    },
  };
}

const ALONE = 'looked at beside the other objects of this push only, as the caller may not get and list objects';

function kindOf(key: string): string {
  return key.slice(0, key.indexOf('/'));
}

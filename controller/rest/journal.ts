/**
 * The one way into the store. In: a plan of what an authenticated call changes. Out: one revision, audited and announced, or nothing at
 * all. Transactions run one after the other, so that audit lines stand in the order of revisions. It must never acknowledge what is not
 * on disk, nor write while the audit log cannot be written.
 */
import { conflict, failure, type StatusSubject } from '../../api/http/status-errors.ts';
import { type MeshObject, objectKey } from '../../api/resources/object.ts';
import { kindByName, MESH_CONFIG_NAME, type Verb } from '../../api/resources/registry.ts';
import type { Check, Entry, Store, Write } from '../store/store.ts';
import type { Audit, AuditEvent } from './audit.ts';
import type { Call } from './call.ts';
import { refuse, statusOf } from './errors.ts';
import type { Neighbours } from './neighbours.ts';
import { storedText } from './objects.ts';

/** What the mesh holds at most. */
export interface Quota {
  readonly objects: number;
  readonly perKindAndNamespace: number;
  /** Clusters that one namespace, and all together, may ask of each host (api/resources/mesh-size.ts). */
  readonly clustersPerNamespace: number;
  readonly clusters: number;
}

export interface JournalDeps {
  readonly store: Store;
  readonly audit: Audit;
  readonly quota: Quota;
  readonly neighbours: Pick<Neighbours, 'clusters'>;
  /** Hears the revision of every commit. */
  onCommit(revision: number): void;
}

/** One object of a transaction, decided upon. */
export interface Planned {
  readonly key: string;
  readonly verb: Verb;
  readonly before: Entry | undefined;
  /** What is stored after the transaction: `before`'s object when nothing changes, undefined when it is deleted. */
  readonly after: MeshObject | undefined;
  readonly changed: boolean;
}

export interface Outcome {
  /** That of the transaction; the current one for a dry run or when nothing changed. */
  readonly revision: number;
  readonly planned: readonly Planned[];
}

export interface Transaction {
  readonly verb: string;
  /** For the audit line of a refusal, when no plan came about. */
  readonly keys: readonly string[];
  readonly dryRun: boolean;
  /** Reads and decides; run again when another writer was faster. May throw StatusError, which is audited too. */
  plan(): Promise<readonly Planned[]>;
}

export interface Journal {
  transact(call: Call, transaction: Transaction): Promise<Outcome>;
  /** Runs work that writes by itself (grants, tokens) in the same order and with the same audit. */
  audited<T>(call: Call, verb: string, keys: readonly string[], work: () => Promise<T>): Promise<T>;
}

const MAX_ATTEMPTS = 5;

export function createJournal(deps: JournalDeps): Journal {
  const { store, audit } = deps;
  let queue: Promise<unknown> = Promise.resolve();

  /** One at a time; a refusal is audited like a write. */
  function inTurn<T>(call: Call, verb: string, keys: readonly string[], work: () => Promise<T>): Promise<T> {
    const run = queue.then(async () => {
      audit.assertReady();
      try {
        return await work();
      } catch (error) {
        const { status } = statusOf(error);
        audit.append({ ...eventOf(call, verb, keys), code: status.code, reason: status.reason });
        throw error;
      }
    });
    queue = run.catch(() => {});
    return run;
  }

  async function attempt(call: Call, { verb, dryRun, plan }: Transaction): Promise<Outcome> {
    for (let attempts = 1; ; attempts++) {
      const planned = await plan();
      const changes = planned.filter((one) => one.changed);
      await checkQuota(deps, changes);
      if (dryRun || changes.length === 0) return { revision: await store.revision(), planned };
      const keys = changes.map((one) => one.key);
      const event = { ...eventOf(call, verb, keys), code: 200 };
      const result = await store.commit(
        [...changes.map(writeOf), audit.row(event)],
        await ownershipChecks(store, call, changes),
      );
      if (result.ok) {
        audit.append({ ...event, revision: result.revision });
        deps.onCommit(result.revision);
        return { revision: result.revision, planned };
      }
      if (attempts === MAX_ATTEMPTS) refuse(conflict(subjectOfKey(result.key)));
    }
  }

  return {
    transact: (call, transaction) => inTurn(call, transaction.verb, transaction.keys, () => attempt(call, transaction)),
    audited: (call, verb, keys, work) =>
      inTurn(call, verb, keys, async () => {
        const result = await work();
        audit.append({ ...eventOf(call, verb, keys), code: 200, revision: await store.revision() });
        return result;
      }),
  };
}

function eventOf(call: Call, verb: string, keys: readonly string[]): Omit<AuditEvent, 'code'> {
  const fieldManager = call.query.get('fieldManager')?.slice(0, 128);
  return { principal: call.principal.name, source: call.source, verb, keys, ...(fieldManager && { fieldManager }) };
}

function writeOf({ key, before, after }: Planned): Write {
  return { key, value: after === undefined ? null : storedText(after), ifRevision: before?.revision ?? 0 };
}

/** Ownership was judged by MeshConfig as it stood: the commit fails, and is planned anew, when it moved. */
async function ownershipChecks(store: Store, call: Call, changes: readonly Planned[]): Promise<Check[]> {
  const key = objectKey('MeshConfig', undefined, MESH_CONFIG_NAME);
  if (call.principal.role === 'admin' || changes.some((one) => one.key === key)) return [];
  return [{ key, ifRevision: (await store.get(key))?.revision ?? 0 }];
}

async function checkQuota(deps: JournalDeps, changes: readonly Planned[]): Promise<void> {
  const { store, quota } = deps;
  await checkClusters(deps, changes);
  const added = changes.filter((one) => one.before === undefined && one.after !== undefined);
  if (added.length === 0) return;
  const perPlace = new Map<string, number>();
  for (const { key } of added) {
    const place = key.slice(0, key.lastIndexOf('/') + 1);
    perPlace.set(place, (perPlace.get(place) ?? 0) + 1);
  }
  const over = (subject: string, limit: number) =>
    refuse(failure('Forbidden', `exceeded quota: at most ${limit} objects ${subject}; delete some first`));
  if ((await store.count('')) + added.length > quota.objects) over('in all', quota.objects);
  for (const [place, count] of perPlace) {
    if ((await store.count(place)) + count > quota.perKindAndNamespace)
      over(`below ${place}`, quota.perKindAndNamespace);
  }
}

/** A host makes every cluster: what asks for too many would stall all of them. What asks for less than before is always taken. */
async function checkClusters({ neighbours, quota }: JournalDeps, changes: readonly Planned[]): Promise<void> {
  const counts = await neighbours.clusters(changes);
  if (counts === undefined) return;
  const total = (of: ReadonlyMap<string, number>) => [...of.values()].reduce((sum, count) => sum + count, 0);
  const check = (where: string, before: number, after: number, limit: number) => {
    if (after <= limit || after <= before) return;
    const clusters = `${after} clusters (ports of services, times subsets; ten routes of a host, or 1,024 places of a hash ring, count as one, a regular expression as five)`;
    refuse(failure('Forbidden', `exceeded quota: ${where} would ask ${clusters} of each host; at most ${limit}`));
  };
  for (const [namespace, after] of counts.after)
    check(`namespace ${namespace}`, counts.before.get(namespace) ?? 0, after, quota.clustersPerNamespace);
  check('the mesh', total(counts.before), total(counts.after), quota.clusters);
}

function subjectOfKey(key: string): StatusSubject {
  const [kind = '', , name = ''] = key.split('/');
  return { ...(kindByName(kind) ?? { group: '', plural: kind }), name };
}

/**
 * Every write of objects. In: authenticated calls and parsed bodies. Out: answers; committed transactions, each audited and announced.
 * Writes run one after the other, each planned on what it read and guarded by its revision, so that nothing is ever half applied. It must
 * never store what validateObject did not return, nor acknowledge what is not on disk.
 */
import { randomUUID } from 'node:crypto';
import {
  alreadyExists,
  badRequest,
  conflict,
  failure,
  forbidden,
  invalid,
  notFound,
  type Status,
  type StatusSubject,
  strictDecoding,
  success,
} from '../../api/http/status-errors.ts';
import { keyOf, type MeshObject, objectKey } from '../../api/resources/object.ts';
import {
  apiVersionOf,
  DEFAULT_NAMESPACE,
  KINDS,
  type KindInfo,
  kindByName,
  MESH_CONFIG_NAME,
  ROOT_NAMESPACE,
  type Verb,
} from '../../api/resources/registry.ts';
import {
  type ValidateOptions,
  type ValidateResult,
  validateObject,
  type Warning,
} from '../../api/resources/validate.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Check, Entry, Store, Write } from '../store/store.ts';
import type { Audit, AuditEvent } from './audit.ts';
import { ownershipRefusal, refusalOf } from './authorize.ts';
import { objectBody, patchBody } from './bodies.ts';
import { type Answer, type Call, isDryRun, type KindTarget, ok, unknownFieldsOf } from './call.ts';
import { refuse, statusOf } from './errors.ts';
import type { Neighbours } from './neighbours.ts';
import { created, inVersion, objectOf, replaced, storedText } from './objects.ts';
import { applyPatch } from './patch.ts';
import { selectorOf } from './selectors.ts';
import { targetKey } from './target.ts';

export interface WriteDeps {
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly neighbours: Neighbours;
  readonly validation: Pick<ValidateOptions, 'trustDomain' | 'vipRanges' | 'enforced'>;
  readonly quota: { readonly objects: number; readonly perKindAndNamespace: number };
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
  readonly revision: number;
  readonly planned: readonly Planned[];
}

export interface Writer {
  create(call: Call, target: KindTarget): Promise<Answer>;
  update(call: Call, target: KindTarget): Promise<Answer>;
  patch(call: Call, target: KindTarget): Promise<Answer>;
  remove(call: Call, target: KindTarget): Promise<Answer>;
  removeCollection(call: Call, target: KindTarget): Promise<Answer>;
  /** Plans under the write lock, commits all or none, audits. `plan` may throw a StatusError, which is audited too. */
  transact(call: Call, request: TransactRequest): Promise<Outcome>;
  /** Validates one object for a namespace and checks who may write it, MeshConfig's ownership included. */
  admit(call: Call, verb: Verb, valid: MeshObject): Promise<void>;
  /** Runs work that writes by itself (grants, tokens) with the same audit. */
  audited<T>(call: Call, verb: string, keys: readonly string[], work: () => Promise<T>): Promise<T>;
}

export interface TransactRequest {
  readonly verb: string;
  /** For the audit line of a refusal, when no plan came about. */
  readonly keys: readonly string[];
  readonly dryRun: boolean;
  plan(): Promise<readonly Planned[]>;
}

const MAX_ATTEMPTS = 5;

export function createWriter(deps: WriteDeps): Writer {
  const { store, audit } = deps;
  let queue: Promise<unknown> = Promise.resolve();
  /** One at a time: a plan sees what the one before it wrote, and audit lines stand in the order of revisions. */
  const exclusively = <T>(work: () => Promise<T>): Promise<T> => {
    const run = queue.then(work, work);
    queue = run.catch(() => {});
    return run;
  };

  const eventOf = (call: Call, verb: string, keys: readonly string[], code: number): AuditEvent => {
    const fieldManager = call.query.get('fieldManager')?.slice(0, 128);
    return {
      principal: call.principal.name,
      source: call.source,
      verb,
      keys,
      ...(fieldManager && { fieldManager }),
      code,
    };
  };

  async function audited<T>(call: Call, verb: string, keys: readonly string[], work: () => Promise<T>): Promise<T> {
    return await exclusively(async () => {
      audit.assertReady();
      try {
        const result = await work();
        audit.append({ ...eventOf(call, verb, keys, 200), revision: await store.revision() });
        return result;
      } catch (error) {
        const { status } = statusOf(error);
        audit.append({ ...eventOf(call, verb, keys, status.code), reason: status.reason });
        throw error;
      }
    });
  }

  async function transact(call: Call, request: TransactRequest): Promise<Outcome> {
    return await exclusively(async () => {
      audit.assertReady();
      try {
        return await attempt(call, request);
      } catch (error) {
        const { status } = statusOf(error);
        audit.append({ ...eventOf(call, request.verb, request.keys, status.code), reason: status.reason });
        throw error;
      }
    });
  }

  async function attempt(call: Call, request: TransactRequest): Promise<Outcome> {
    for (let attempts = 1; ; attempts++) {
      const planned = await request.plan();
      const changes = planned.filter((one) => one.changed);
      await checkQuota(changes);
      if (request.dryRun || changes.length === 0) return { revision: await store.revision(), planned };
      const event = eventOf(
        call,
        request.verb,
        changes.map((one) => one.key),
        200,
      );
      const writes: Write[] = changes.map((one) => ({
        key: one.key,
        value: one.after === undefined ? null : storedText(one.after),
        ifRevision: one.before?.revision ?? 0,
      }));
      const row = audit.row(event);
      const result = await store.commit([...writes, row], await ownershipChecks(call, changes));
      if (result.ok) {
        audit.append({ ...event, revision: result.revision });
        deps.onCommit(result.revision);
        return { revision: result.revision, planned };
      }
      if (attempts === MAX_ATTEMPTS) refuse(conflict(subjectOfKey(result.key)));
    }
  }

  /** Ownership was judged by MeshConfig as it stood: the commit fails, and is planned anew, when it moved. */
  async function ownershipChecks(call: Call, changes: readonly Planned[]): Promise<Check[]> {
    const key = objectKey('MeshConfig', undefined, MESH_CONFIG_NAME);
    if (call.principal.role === 'admin' || changes.some((one) => one.key === key)) return [];
    return [{ key, ifRevision: (await store.get(key))?.revision ?? 0 }];
  }

  async function checkQuota(changes: readonly Planned[]): Promise<void> {
    const added = changes.filter((one) => one.before === undefined && one.after !== undefined);
    if (added.length === 0) return;
    const perPlace = new Map<string, number>();
    for (const { key } of added) {
      const place = key.slice(0, key.lastIndexOf('/') + 1);
      perPlace.set(place, (perPlace.get(place) ?? 0) + 1);
    }
    const over = (subject: string, limit: number) =>
      refuse(failure('Forbidden', `exceeded quota: at most ${limit} objects ${subject}; delete some first`));
    if ((await store.count('')) + added.length > deps.quota.objects) over('in all', deps.quota.objects);
    for (const [place, count] of perPlace) {
      if ((await store.count(place)) + count > deps.quota.perKindAndNamespace)
        over(`below ${place}`, deps.quota.perKindAndNamespace);
    }
  }

  async function admit(call: Call, verb: Verb, valid: MeshObject): Promise<void> {
    const info = kindByName(valid.kind) as KindInfo;
    const { name, namespace } = valid.metadata;
    const subject = { ...info, name };
    const why = refusalOf(call.principal, { verb, info, namespace, name });
    if (why !== undefined) refuse(forbidden(subject, why));
    if (valid.kind === 'Secret')
      refuse(
        forbidden(subject, 'this version keeps no Secrets: it could not encrypt them; gateways come with a later one'),
      );
    const meshConfig = await store.get(objectKey('MeshConfig', undefined, MESH_CONFIG_NAME));
    const foreign = ownershipRefusal(
      call.principal,
      valid,
      meshConfig === undefined ? undefined : objectOf(meshConfig),
    );
    if (foreign !== undefined) refuse(forbidden(subject, foreign));
  }

  /** Verb and place first: who may not write here learns nothing of what is here. */
  function authorize(call: Call, verb: Verb, target: KindTarget): void {
    const why = refusalOf(call.principal, { verb, ...target });
    if (why !== undefined) refuse(forbidden({ ...target.info, name: target.name }, why));
  }

  function validate(
    call: Call,
    target: KindTarget,
    body: Record<string, unknown>,
  ): ValidateResult & { object: MeshObject } {
    requireKind(target, body);
    const unknownFields = unknownFieldsOf(call.query);
    const result = validateObject(body, { ...deps.validation, namespace: target.namespace, unknownFields });
    if (result.object !== undefined) return { ...result, object: result.object };
    const unknown = result.violations.filter((one) => one.reason === 'UnknownField');
    if (unknown.length === result.violations.length) return refuse(strictDecoding(unknown));
    const name = (body.metadata as { name?: unknown } | undefined)?.name;
    return refuse(invalid({ ...target.info, name: typeof name === 'string' ? name : target.name }, result.violations));
  }

  async function warningsOf(object: MeshObject, found: readonly Warning[]): Promise<string[]> {
    const beside = await deps.neighbours.warnings([object]);
    return [...found, ...(beside.get(keyOf(object)) ?? [])].map(({ path, message }) =>
      path === '' || message.startsWith('unknown field') ? message : `${path}: ${message}`,
    );
  }

  /** The answer to a write of one object. */
  function shown(target: KindTarget, outcome: Outcome, code: number, warnings: readonly string[]): Answer {
    const [planned] = outcome.planned;
    const after = planned?.after as MeshObject;
    const revision = planned?.changed ? outcome.revision : (planned?.before?.revision ?? outcome.revision);
    const metadata = { ...after.metadata, resourceVersion: String(revision) };
    return ok(inVersion({ ...after, metadata }, target.info, target.version), code, warnings);
  }

  const create = async (call: Call, target: KindTarget): Promise<Answer> => {
    authorize(call, 'create', target);
    const { object, warnings } = validate(call, target, objectBody(call));
    if (object.metadata.resourceVersion)
      refuse(badRequest('metadata.resourceVersion must not be set on an object to be created'));
    const key = keyOf(object);
    const dryRun = isDryRun(call.query.getAll('dryRun'));
    const outcome = await transact(call, {
      verb: 'create',
      keys: [key],
      dryRun,
      plan: async () => {
        await admit(call, 'create', object);
        if ((await store.get(key)) !== undefined) refuse(alreadyExists({ ...target.info, name: object.metadata.name }));
        const after = created(object, { uid: randomUUID(), now: deps.clock.now() });
        return [{ key, verb: 'create', before: undefined, after, changed: true }];
      },
    });
    return shown(target, outcome, 201, await warningsOf(object, warnings));
  };

  /** Update and patch differ in where the new body comes from. */
  async function replace(
    call: Call,
    target: KindTarget,
    verb: 'update' | 'patch',
    next: (current: MeshObject) => Record<string, unknown>,
  ): Promise<Answer> {
    authorize(call, verb, target);
    const key = targetKey(target);
    let valid: (ValidateResult & { object: MeshObject }) | undefined;
    const outcome = await transact(call, {
      verb,
      keys: [key],
      dryRun: isDryRun(call.query.getAll('dryRun')),
      plan: async () => {
        const before = await store.get(key);
        if (before === undefined) return refuse(notFound({ ...target.info, name: target.name }));
        const current = objectOf(before);
        valid = validate(call, target, next(inVersion(current, target.info, target.version)));
        const { object } = valid;
        checkIdentity(target, current, object);
        await admit(call, verb, object);
        const after = replaced(current, object);
        return [{ key, verb, before, after: after ?? current, changed: after !== undefined }];
      },
    });
    const { object, warnings } = valid as ValidateResult & { object: MeshObject };
    return shown(target, outcome, 200, await warningsOf(object, warnings));
  }

  async function planRemoval(entry: Entry): Promise<Planned[]> {
    const object = objectOf(entry);
    const removal = (one: Entry): Planned => ({
      key: one.key,
      verb: 'delete',
      before: one,
      after: undefined,
      changed: true,
    });
    if (object.kind !== 'Namespace') return [removal(entry)];
    const name = object.metadata.name;
    if (name === DEFAULT_NAMESPACE || name === ROOT_NAMESPACE)
      refuse(forbidden({ group: '', plural: 'namespaces', name }, 'this namespace may not be deleted'));
    const inside: Planned[] = [];
    for (const info of KINDS.filter((one) => one.namespaced && one.stored)) {
      const { entries } = await store.list(`${info.kind}/${name}/`);
      inside.push(...entries.map(removal));
    }
    return [removal(entry), ...inside];
  }

  const remove = async (call: Call, target: KindTarget): Promise<Answer> => {
    authorize(call, 'delete', target);
    const options = deleteOptions(call);
    const key = targetKey(target);
    const subject = { ...target.info, name: target.name };
    const outcome = await transact(call, {
      verb: 'delete',
      keys: [key],
      dryRun: options.dryRun,
      plan: async () => {
        const before = await store.get(key);
        if (before === undefined) return refuse(notFound(subject));
        checkPreconditions(subject, before, options);
        return await planRemoval(before);
      },
    });
    const before = objectOf(outcome.planned[0]?.before as Entry);
    return ok(success({ ...subject, uid: before.metadata.uid }));
  };

  const removeCollection = async (call: Call, target: KindTarget): Promise<Answer> => {
    authorize(call, 'deletecollection', target);
    const options = deleteOptions(call);
    const matches = selectorOf(call.query);
    const prefix = target.namespace === undefined ? `${target.info.kind}/` : `${target.info.kind}/${target.namespace}/`;
    const outcome = await transact(call, {
      verb: 'deletecollection',
      keys: [prefix],
      dryRun: options.dryRun,
      plan: async () => {
        const { entries } = await store.list(prefix);
        const chosen = entries.filter((entry) => matches?.(objectOf(entry)) ?? true);
        const plans = await Promise.all(chosen.map((entry) => planRemoval(entry)));
        return [...new Map(plans.flat().map((one) => [one.key, one])).values()];
      },
    });
    const items = outcome.planned
      .filter((one) => one.key.startsWith(prefix))
      .map((one) => inVersion(objectOf(one.before as Entry), target.info, target.version));
    const metadata = { resourceVersion: String(outcome.revision) };
    return ok({
      kind: `${target.info.kind}List`,
      apiVersion: apiVersionOf(target.info, target.version),
      metadata,
      items,
    });
  };

  return {
    create,
    update: async (call, target) => {
      const body = objectBody(call);
      return await replace(call, target, 'update', () => body);
    },
    patch: async (call, target) => {
      const type = (call.contentType.split(';')[0] ?? '').trim().toLowerCase();
      // The type first: a patch of a type that is not taken need not be JSON.
      applyPatchType(type, target.info);
      const body = patchBody(call);
      return await replace(call, target, 'patch', (current) => patched(type, target.info, current, body));
    },
    remove,
    removeCollection,
    transact,
    admit,
    audited,
  };
}

function applyPatchType(type: string, info: KindInfo): void {
  applyPatch(type, info, {}, type.includes('json-patch') ? [] : {});
}

function patched(type: string, info: KindInfo, current: MeshObject, body: unknown): Record<string, unknown> {
  const result = applyPatch(type, info, current, body);
  if (result === null || typeof result !== 'object' || Array.isArray(result))
    return refuse(badRequest('the patch leaves no object'));
  return result as Record<string, unknown>;
}

function subjectOfKey(key: string): StatusSubject {
  const [kind = '', , name = ''] = key.split('/');
  return { ...(kindByName(kind) ?? { group: '', plural: kind }), name };
}

/** The body's type must be the path's. */
function requireKind({ info, version }: KindTarget, body: Record<string, unknown>): void {
  const expected = apiVersionOf(info, version);
  if (typeof body.kind !== 'string' || body.kind === '') refuse(badRequest(`kind is required: ${info.kind}`));
  if (body.kind !== info.kind)
    refuse(badRequest(`kind: ${String(body.kind).slice(0, 100)} in a request for ${info.kind}`));
  if (body.apiVersion !== expected)
    refuse(badRequest(`apiVersion: ${String(body.apiVersion).slice(0, 100)} in a request for ${expected}`));
}

/** Name, uid and resourceVersion of an update, where it names them, are those of the stored object. */
function checkIdentity(target: KindTarget, current: MeshObject, next: MeshObject): void {
  const subject = { ...target.info, name: target.name };
  if (next.metadata.name !== target.name)
    refuse(
      badRequest(`metadata.name: ${next.metadata.name} in a request for ${target.name}; a name cannot be changed`),
    );
  if (next.metadata.resourceVersion && next.metadata.resourceVersion !== current.metadata.resourceVersion)
    refuse(conflict(subject));
  if (next.metadata.uid && next.metadata.uid !== current.metadata.uid)
    refuse(
      conflict(
        subject,
        `the UID in the request is ${next.metadata.uid.slice(0, 60)}, the object's is ${current.metadata.uid}`,
      ),
    );
}

interface DeleteOptions {
  readonly dryRun: boolean;
  readonly uid?: string;
  readonly resourceVersion?: string;
}

const DELETE_FIELDS = [
  'kind',
  'apiVersion',
  'dryRun',
  'preconditions',
  'propagationPolicy',
  'gracePeriodSeconds',
  'orphanDependents',
];

/** DeleteOptions out of body and query. A dry run may stand in the body alone (kubectl). Nothing here has dependents: every policy is the same. */
function deleteOptions(call: Call): DeleteOptions {
  const body = call.body.length === 0 ? {} : objectBody(call);
  for (const key of Object.keys(body))
    if (!DELETE_FIELDS.includes(key)) refuse(badRequest(`strict decoding error: unknown field "${key.slice(0, 100)}"`));
  if (body.dryRun !== undefined && body.dryRun !== null && !Array.isArray(body.dryRun))
    refuse(badRequest('dryRun: expected a list'));
  const dryRun = isDryRun([...((body.dryRun as unknown[] | null | undefined) ?? []), ...call.query.getAll('dryRun')]);
  const preconditions = (body.preconditions ?? {}) as Record<string, unknown>;
  const text = (key: string): string | undefined => {
    const value = typeof preconditions === 'object' ? preconditions[key] : null;
    if (value === undefined || typeof value === 'string') return value as string | undefined;
    return refuse(badRequest(`preconditions.${key}: expected a string`));
  };
  return { dryRun, uid: text('uid'), resourceVersion: text('resourceVersion') };
}

function checkPreconditions(subject: StatusSubject, entry: Entry, options: DeleteOptions): void {
  const { uid, resourceVersion } = objectOf(entry).metadata;
  const differs = (what: string, wanted: string | undefined, is: string | undefined): Status | undefined =>
    wanted === undefined || wanted === is
      ? undefined
      : conflict(subject, `the precondition ${what} ${wanted.slice(0, 60)} is not the object's ${is}`);
  const refusal =
    differs('uid', options.uid, uid) ?? differs('resourceVersion', options.resourceVersion, resourceVersion);
  if (refusal !== undefined) refuse(refusal);
}

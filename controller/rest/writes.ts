/** Create, update, patch and delete of objects. In: authenticated calls. Out: answers; transactions by the journal. */
import { randomUUID } from 'node:crypto';
import { alreadyExists, badRequest, conflict, forbidden, notFound, success } from '../../api/http/status-errors.ts';
import { keyOf, type MeshObject } from '../../api/resources/object.ts';
import { apiVersionOf, DEFAULT_NAMESPACE, KINDS, type KindInfo, ROOT_NAMESPACE } from '../../api/resources/registry.ts';
import type { Warning } from '../../api/resources/validate.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { SecretVault } from '../store/secret-vault.ts';
import type { Entry, Store } from '../store/store.ts';
import { admit, authorizeWrite, type Valid, type Validation, validateBody } from './admission.ts';
import { mediaType, objectBody, patchBody } from './bodies.ts';
import { type Answer, type Call, isDryRun, type KindTarget, ok } from './call.ts';
import { checkPreconditions, deleteOptions } from './delete-options.ts';
import { refuse } from './errors.ts';
import type { Journal, Outcome, Planned } from './journal.ts';
import type { Neighbours } from './neighbours.ts';
import { created, inVersion, objectOf, replaced } from './objects.ts';
import { applyPatch, requirePatchType } from './patch.ts';
import { asStored, withKeptValues } from './secrets.ts';
import { selectorOf } from './selectors.ts';
import { prefixOf, targetKey } from './target.ts';

export interface WriteDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly journal: Journal;
  readonly neighbours: Neighbours;
  readonly validation: Validation;
  readonly vault: SecretVault;
}

export async function createObject(deps: WriteDeps, call: Call, target: KindTarget): Promise<Answer> {
  const { store } = deps;
  authorizeWrite(call, 'create', target);
  const valid = validateBody(deps.validation, call, target, objectBody(call));
  const { object } = valid;
  if (object.metadata.resourceVersion)
    refuse(badRequest('metadata.resourceVersion must not be set on an object to be created'));
  const key = keyOf(object);
  const outcome = await deps.journal.transact(call, {
    verb: 'create',
    keys: [key],
    dryRun: isDryRun(call.query.getAll('dryRun')),
    plan: async () => {
      await admit(store, call, 'create', object);
      if ((await store.get(key)) !== undefined) refuse(alreadyExists({ ...target.info, name: object.metadata.name }));
      const after = created(asStored(deps.vault, object), { uid: randomUUID(), now: deps.clock.now() });
      return [{ key, verb: 'create', before: undefined, after, changed: true }];
    },
  });
  return await answerOf(deps, call, target, outcome, valid, 201);
}

export async function updateObject(deps: WriteDeps, call: Call, target: KindTarget): Promise<Answer> {
  const body = objectBody(call);
  return await replaceObject(deps, call, target, 'update', () => body);
}

export async function patchObject(deps: WriteDeps, call: Call, target: KindTarget): Promise<Answer> {
  const type = mediaType(call.contentType);
  requirePatchType(type, target.info); // first: a patch of a type that is not taken need not be JSON
  const patch = patchBody(call);
  return await replaceObject(deps, call, target, 'patch', (current) => {
    const result = applyPatch(type, target.info, current, patch);
    if (result === null || typeof result !== 'object' || Array.isArray(result))
      return refuse(badRequest('the patch leaves no object'));
    return result as Record<string, unknown>;
  });
}

/** Update and patch differ in where the new body comes from. */
async function replaceObject(
  deps: WriteDeps,
  call: Call,
  target: KindTarget,
  verb: 'update' | 'patch',
  next: (current: MeshObject) => Record<string, unknown>,
): Promise<Answer> {
  authorizeWrite(call, verb, target);
  const key = targetKey(target);
  let valid: Valid | undefined;
  const outcome = await deps.journal.transact(call, {
    verb,
    keys: [key],
    dryRun: isDryRun(call.query.getAll('dryRun')),
    plan: async () => {
      const before = await deps.store.get(key);
      if (before === undefined) return refuse(notFound({ ...target.info, name: target.name }));
      const current = objectOf(before);
      const body = withKeptValues(deps.vault, next(inVersion(current, target.info, target.version)), current);
      valid = validateBody(deps.validation, call, target, body);
      checkIdentity(target, current, valid.object);
      await admit(deps.store, call, verb, valid.object);
      const after = replaced(current, asStored(deps.vault, valid.object, current));
      return [{ key, verb, before, after: after ?? current, changed: after !== undefined }];
    },
  });
  return await answerOf(deps, call, target, outcome, valid as Valid, 200);
}

/** Name, uid and resourceVersion of an update, where it names them, are those of the stored object. */
function checkIdentity(target: KindTarget, current: MeshObject, next: MeshObject): void {
  const subject = { ...target.info, name: target.name };
  const { name, uid, resourceVersion } = next.metadata;
  if (name !== target.name)
    refuse(badRequest(`metadata.name: ${name} in a request for ${target.name}; a name cannot be changed`));
  if (resourceVersion && resourceVersion !== current.metadata.resourceVersion) refuse(conflict(subject));
  if (uid && uid !== current.metadata.uid)
    refuse(conflict(subject, `the UID in the request is ${uid.slice(0, 60)}, the object's is ${current.metadata.uid}`));
}

/** The answer to a write of one object, with what is odd about it beside the rest of the mesh. */
async function answerOf(
  deps: WriteDeps,
  { principal }: Call,
  target: KindTarget,
  outcome: Outcome,
  { warnings }: Valid,
  code: number,
): Promise<Answer> {
  const [planned] = outcome.planned;
  const after = planned?.after as MeshObject;
  const revision = planned?.changed ? outcome.revision : (planned?.before?.revision ?? outcome.revision);
  const metadata = { ...after.metadata, resourceVersion: String(revision) };
  const advice = await deps.neighbours.advise([after], principal);
  const texts = [...warnings, ...(advice.warnings.get(keyOf(after)) ?? [])].map(warningText);
  if (advice.note !== undefined) texts.push(advice.note);
  return ok(inVersion({ ...after, metadata }, target.info, target.version), code, texts);
}

function warningText({ path, message, code }: Warning): string {
  const text = path === '' || message.startsWith('unknown field') ? message : `${path}: ${message}`;
  return code === undefined ? text : `${text} [${code}]`;
}

export async function deleteObject(deps: WriteDeps, call: Call, target: KindTarget): Promise<Answer> {
  authorizeWrite(call, 'delete', target);
  const options = deleteOptions(call);
  const key = targetKey(target);
  const subject = { ...target.info, name: target.name };
  const outcome = await deps.journal.transact(call, {
    verb: 'delete',
    keys: [key],
    dryRun: options.dryRun,
    plan: async () => {
      const before = await deps.store.get(key);
      if (before === undefined) return refuse(notFound(subject));
      checkPreconditions(subject, before, options);
      return await planRemoval(deps.store, before);
    },
  });
  const before = objectOf(outcome.planned[0]?.before as Entry);
  return ok(success({ ...subject, uid: before.metadata.uid }));
}

export async function deleteCollection(deps: WriteDeps, call: Call, target: KindTarget): Promise<Answer> {
  authorizeWrite(call, 'deletecollection', target);
  const options = deleteOptions(call);
  const matches = selectorOf(call.query);
  const prefix = prefixOf(target);
  const outcome = await deps.journal.transact(call, {
    verb: 'deletecollection',
    keys: [prefix],
    dryRun: options.dryRun,
    plan: async () => {
      const { entries } = await deps.store.list(prefix);
      const chosen = entries.filter((entry) => matches?.(objectOf(entry)) ?? true);
      const planned = (await Promise.all(chosen.map((entry) => planRemoval(deps.store, entry)))).flat();
      return planned;
    },
  });
  const items = outcome.planned
    .filter((one) => one.key.startsWith(prefix))
    .map((one) => inVersion(objectOf(one.before as Entry), target.info, target.version));
  const { info, version } = target;
  const metadata = { resourceVersion: String(outcome.revision) };
  return ok({ kind: `${info.kind}List`, apiVersion: apiVersionOf(info, version), metadata, items });
}

const PERMANENT: readonly string[] = [DEFAULT_NAMESPACE, ROOT_NAMESPACE];

/** A namespace goes with all that is in it, in one transaction. */
async function planRemoval(store: Store, entry: Entry): Promise<Planned[]> {
  const object = objectOf(entry);
  const removal = (before: Entry): Planned => ({
    key: before.key,
    verb: 'delete',
    before,
    after: undefined,
    changed: true,
  });
  if (object.kind !== 'Namespace') return [removal(entry)];
  const { name } = object.metadata;
  if (PERMANENT.includes(name))
    refuse(forbidden({ group: '', plural: 'namespaces', name }, 'this namespace may not be deleted'));
  const inside: Planned[] = [];
  for (const info of KINDS.filter((one: KindInfo) => one.namespaced && one.stored)) {
    const { entries } = await store.list(`${info.kind}/${name}/`);
    inside.push(...entries.map(removal));
  }
  return [removal(entry), ...inside];
}

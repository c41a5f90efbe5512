/**
 * The operators' own paths (api/http/operator-api.ts): the transaction, join tokens, hosts, status. In: authenticated calls. Out: answers.
 * It must never show a token twice, nor store a part of a transaction.
 */
import { randomUUID } from 'node:crypto';
import {
  type ApplyAction,
  type ApplyResponse,
  type ApplyResult,
  type Host,
  type JoinToken,
  type MeshStatus,
  OPERATOR_API,
  OPERATOR_LIMITS,
} from '../../api/http/operator-api.ts';
import {
  badRequest,
  conflict,
  failure,
  forbidden,
  invalid,
  notFound,
  type StatusCause,
} from '../../api/http/status-errors.ts';
import { LABEL } from '../../api/identity/spiffe-id.ts';
import { keyOf, type MeshObject, objectKey } from '../../api/resources/object.ts';
import { type KindInfo, kindByName } from '../../api/resources/registry.ts';
import { Report } from '../../api/resources/report.ts';
import { fieldSchemas } from '../../api/resources/schemas.ts';
import { checkStructure } from '../../api/resources/structural.ts';
import { type Violation, validateObject, type Warning } from '../../api/resources/validate.ts';
import { admit } from './admission.ts';
import type { Advice } from './advice.ts';
import { objectBody, transactionBody } from './bodies.ts';
import { type Answer, type Call, isDryRun, type KindTarget, ok, unknownFieldsOf } from './call.ts';
import { refuse, StatusError } from './errors.ts';
import type { Planned } from './journal.ts';
import { created, objectOf, replaced } from './objects.ts';
import { type ListMeta, showList, showObject } from './presentation.ts';
import { authorizeRead, type ReadDeps, shownOf } from './reads.ts';
import { asStored } from './secrets.ts';
import type { WriteDeps } from './writes.ts';

/** What hosts the mesh has; the composition root joins grants and reports. */
export interface HostDirectory {
  list(): Promise<readonly Host[]>;
  /** Undefined when there is no such host. Revoking twice is no error. */
  revoke(name: string): Promise<Host | undefined>;
}

export interface TokenIssuer {
  /** Throws TOKEN_INVALID with details.field. */
  create(spec: JoinToken['spec']): Promise<NonNullable<JoinToken['status']>>;
}

export interface OperatorDeps extends ReadDeps, WriteDeps {
  readonly hosts: HostDirectory;
  readonly tokens: TokenIssuer;
  status(): Promise<MeshStatus>;
}

interface Admitted {
  readonly object: MeshObject;
  readonly warnings: readonly Warning[];
}

/** POST apply: every object valid, allowed and unchanged under the caller's feet, or none is stored. */
export async function applyTransaction(deps: OperatorDeps, call: Call): Promise<Answer> {
  const inputs = transactionBody(call);
  const dryRun = isDryRun(call.query.getAll('dryRun'));
  if (inputs.length > OPERATOR_LIMITS.maxTransactionObjects)
    refuse(
      failure('RequestEntityTooLarge', `a transaction has at most ${OPERATOR_LIMITS.maxTransactionObjects} objects`),
    );
  const admitted = validateAll(deps, call, inputs);
  const keys = admitted.map(({ object }) => keyOf(object));
  const outcome = await deps.journal.transact(call, {
    verb: 'apply',
    keys,
    dryRun,
    plan: () => planAll(deps, call, admitted),
  });
  const advice = await deps.neighbours.advise(
    outcome.planned.map(({ after }) => after as MeshObject),
    call.principal,
  );
  const { results, notes } = resultsOf(outcome.planned, admitted, advice);
  const body: ApplyResponse = {
    apiVersion: 'hostmesh.io/v1',
    kind: 'ApplyResult',
    revision: outcome.revision,
    dryRun,
    results,
    ...(notes.length === 0 ? {} : { notes }),
  };
  return ok(body);
}

/** Warnings in an answer: a transaction must not make one of a hundred times its own size. */
const MAX_WARNINGS = 500;

function resultsOf(
  planned: readonly Planned[],
  admitted: readonly Admitted[],
  advice: Advice,
): { results: ApplyResult[]; notes: string[] } {
  let left = MAX_WARNINGS;
  const results = planned.map((one, i) => {
    const all = [...(admitted[i]?.warnings ?? []), ...(advice.warnings.get(one.key) ?? [])];
    const warnings = all.slice(0, Math.max(0, left));
    left -= all.length;
    return { key: one.key, action: actionOf(one), warnings };
  });
  const notes = advice.note === undefined ? [] : [advice.note];
  if (left < 0) notes.push(`${-left} more warnings are left out`);
  return { results, notes };
}

function actionOf({ before, changed }: Planned): ApplyAction {
  return before === undefined ? 'created' : changed ? 'configured' : 'unchanged';
}

function validateAll(deps: OperatorDeps, call: Call, inputs: readonly unknown[]): Admitted[] {
  const unknownFields = unknownFieldsOf(call.query);
  const causes: StatusCause[] = [];
  const places = new Map<string, number>();
  const admitted = inputs.flatMap((input, i): Admitted[] => {
    const result = validateObject(input, { ...deps.validation, unknownFields });
    const violations: Violation[] = [...result.violations];
    if (result.object !== undefined) {
      const key = keyOf(result.object);
      const first = places.get(key);
      if (first !== undefined)
        violations.push({
          path: 'metadata.name',
          message: `${key} is in the transaction twice: objects[${first}] too`,
          reason: 'FieldValueDuplicate',
        });
      places.set(key, i);
    }
    causes.push(...(invalid({ group: '', plural: '' }, violations, `objects[${i}].`).details?.causes ?? []));
    return result.object === undefined ? [] : [{ object: result.object, warnings: result.warnings }];
  });
  if (causes.length === 0) return admitted;
  const shown = causes.slice(0, 100).map((one) => ({ ...one, field: one.field?.replace(/\.$/, '') }));
  const first = shown[0] as StatusCause;
  const more = causes.length === 1 ? '' : ` (and ${causes.length - 1} more)`;
  return refuse(
    failure('Invalid', `nothing was applied: ${first.field}: ${first.message}${more}`, {
      kind: 'ApplyRequest',
      group: OPERATOR_API.group,
      causes: shown,
    }),
  );
}

async function planAll(deps: OperatorDeps, call: Call, admitted: readonly Admitted[]): Promise<Planned[]> {
  const planned: Planned[] = [];
  for (const [i, { object }] of admitted.entries()) {
    try {
      planned.push(await planOne(deps, call, object));
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      const { reason = 'InternalError', message = '', details } = error.status;
      const cause = { reason, message, field: `objects[${i}]` };
      refuse(failure(reason, `nothing was applied: objects[${i}]: ${message}`, { ...details, causes: [cause] }));
    }
  }
  return planned;
}

async function planOne(deps: OperatorDeps, call: Call, object: MeshObject): Promise<Planned> {
  const key = keyOf(object);
  const before = await deps.store.get(key);
  const verb = before === undefined ? 'create' : 'update';
  await admit(deps.store, call, verb, object);
  const { resourceVersion, name } = object.metadata;
  if (resourceVersion !== undefined && resourceVersion !== String(before?.revision ?? ''))
    refuse(conflict({ ...(kindByName(object.kind) as KindInfo), name }));
  if (before === undefined) {
    const after = created(asStored(deps.vault, object), { uid: randomUUID(), now: deps.clock.now() });
    return { key, verb, before, after, changed: true };
  }
  const current = objectOf(before);
  const after = replaced(current, asStored(deps.vault, object, current));
  return { key, verb, before, after: after ?? current, changed: after !== undefined };
}

/** GET hosts and hosts/NAME. */
export async function readHosts(deps: OperatorDeps, call: Call, target: KindTarget): Promise<Answer> {
  authorizeRead(call, target.name === undefined ? 'list' : 'get', target);
  const hosts = await deps.hosts.list();
  const shown = shownOf(deps, call, target);
  if (target.name !== undefined) {
    const host = hosts.find((one) => one.metadata.name === target.name);
    return host === undefined
      ? refuse(notFound({ ...target.info, name: target.name }))
      : ok(showObject(asObject(host), shown));
  }
  const metadata: ListMeta = { resourceVersion: String(await deps.store.revision()) };
  return ok(showList(hosts.map(asObject), metadata, shown));
}

function asObject(host: Host): MeshObject {
  return host as unknown as MeshObject;
}

const HOST_SUBJECT = { group: OPERATOR_API.group, plural: 'hosts' };

/** POST hosts/NAME/revoke. */
export async function revokeHost(deps: OperatorDeps, call: Call, name: string): Promise<Answer> {
  if (call.principal.role !== 'admin' || call.principal.verbs?.includes('delete') === false)
    refuse(
      forbidden({ ...HOST_SUBJECT, name }, `User "${call.principal.name}" cannot revoke hosts: that needs mesh-admin`),
    );
  const revoke = async () =>
    (LABEL.test(name) ? await deps.hosts.revoke(name) : undefined) ?? refuse(notFound({ ...HOST_SUBJECT, name }));
  return ok(await deps.journal.audited(call, 'revoke', [`Host//${name.slice(0, 63)}`], revoke));
}

/** POST jointokens: the one answer that carries the join string. */
export async function createToken(deps: OperatorDeps, call: Call, target: KindTarget): Promise<Answer> {
  authorizeRead(call, 'create', target);
  if (isDryRun(call.query.getAll('dryRun'))) refuse(badRequest('a join token cannot be made in a dry run'));
  const body = objectBody(call);
  const spec = tokenSpec(body, target.info);
  const status = await deps.journal.audited(call, 'create', [`JoinToken//${spec.host}`], () =>
    deps.tokens.create(spec),
  );
  const token: JoinToken = { apiVersion: 'hostmesh.io/v1', kind: 'JoinToken', spec, status };
  return { ...ok(token, 201, await unknownGroups(deps, spec)), headers: { 'cache-control': 'no-store' } };
}

/** A host may be granted what is not there yet; probably it is a typing error. */
async function unknownGroups({ store }: OperatorDeps, { workloadGroups }: JoinToken['spec']): Promise<string[]> {
  const warnings: string[] = [];
  for (const group of workloadGroups) {
    const [namespace, name = ''] = group.split('/');
    if ((await store.get(objectKey('WorkloadGroup', namespace, name))) === undefined)
      warnings.push(`WorkloadGroup ${group} is not known (yet): the host serves it once it is`);
  }
  return warnings;
}

function tokenSpec(body: Record<string, unknown>, info: KindInfo): JoinToken['spec'] {
  const report = new Report();
  const unknown = (path: string) => report.add(path, `unknown field "${path}"`, 'UnknownField');
  if (body.kind !== 'JoinToken' || body.apiVersion !== OPERATOR_API.groupVersion)
    refuse(badRequest(`expected a JoinToken of ${OPERATOR_API.groupVersion}`));
  for (const key of Object.keys(body)) if (!['apiVersion', 'kind', 'metadata', 'spec'].includes(key)) unknown(key);
  for (const key of Object.keys((body.metadata as object | null | undefined) ?? {}))
    if (key !== 'creationTimestamp')
      report.add(`metadata.${key}`, 'a join token has no metadata of the operator’s', 'FieldValueForbidden');
  const schema = fieldSchemas(info).spec;
  const spec = schema === undefined ? {} : checkStructure(body.spec, schema, 'spec', report, unknown);
  if (report.violations.length > 0) refuse(invalid({ ...info }, report.violations));
  return spec as JoinToken['spec'];
}

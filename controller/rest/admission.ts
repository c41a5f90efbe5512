/** What stands between a parsed body and a plan: is it what the path says, is it valid, may the caller write it. */
import { badRequest, forbidden, invalid, strictDecoding } from '../../api/http/status-errors.ts';
import { type MeshObject, objectKey } from '../../api/resources/object.ts';
import { apiVersionOf, type KindInfo, kindByName, MESH_CONFIG_NAME, type Verb } from '../../api/resources/registry.ts';
import { type ValidateOptions, validateObject, type Warning } from '../../api/resources/validate.ts';
import type { Store } from '../store/store.ts';
import { ownershipRefusal, refusalOf } from './authorize.ts';
import { type Call, type KindTarget, unknownFieldsOf } from './call.ts';
import { refuse } from './errors.ts';
import { objectOf } from './objects.ts';

export type Validation = Pick<ValidateOptions, 'trustDomain' | 'vipRanges' | 'enforced' | 'now'>;

/** An object that may be stored, as far as it alone tells. */
export interface Valid {
  readonly object: MeshObject;
  readonly warnings: readonly Warning[];
}

/** Verb and place first: who may not write here learns nothing of what is here. */
export function authorizeWrite(call: Call, verb: Verb, target: KindTarget): void {
  const why = refusalOf(call.principal, { verb, ...target });
  if (why !== undefined) refuse(forbidden({ ...target.info, name: target.name }, why));
}

/** The body as a valid object of the target's kind. Throws 400 (another kind, unknown fields) or 422. */
export function validateBody(
  validation: Validation,
  call: Call,
  target: KindTarget,
  body: Record<string, unknown>,
): Valid {
  requireKind(target, body);
  const unknownFields = unknownFieldsOf(call.query);
  const { object, violations, warnings } = validateObject(body, {
    ...validation,
    namespace: target.namespace,
    unknownFields,
  });
  if (object !== undefined) return { object, warnings };
  const unknown = violations.filter((one) => one.reason === 'UnknownField');
  if (unknown.length === violations.length) return refuse(strictDecoding(unknown));
  const name = (body.metadata as { name?: unknown } | null | undefined)?.name;
  return refuse(invalid({ ...target.info, name: typeof name === 'string' ? name : target.name }, violations));
}

/** May the caller store this very object? MeshConfig says which namespace owns which host. */
export async function admit(store: Store, call: Call, verb: Verb, object: MeshObject): Promise<void> {
  const info = kindByName(object.kind) as KindInfo;
  const { name, namespace } = object.metadata;
  const subject = { ...info, name };
  const why = refusalOf(call.principal, { verb, info, namespace, name });
  if (why !== undefined) refuse(forbidden(subject, why));
  const meshConfig = await store.get(objectKey('MeshConfig', undefined, MESH_CONFIG_NAME));
  const foreign = ownershipRefusal(call.principal, object, meshConfig === undefined ? undefined : objectOf(meshConfig));
  if (foreign !== undefined) refuse(forbidden(subject, foreign));
}

/** The body's type must be the path's. */
function requireKind({ info, version }: KindTarget, body: Record<string, unknown>): void {
  const expected = apiVersionOf(info, version);
  if (typeof body.kind !== 'string' || body.kind === '') refuse(badRequest(`kind is required: ${info.kind}`));
  if (body.kind !== info.kind) refuse(badRequest(`kind: ${body.kind.slice(0, 100)} in a request for ${info.kind}`));
  if (body.apiVersion !== expected)
    refuse(badRequest(`apiVersion: ${String(body.apiVersion).slice(0, 100)} in a request for ${expected}`));
}

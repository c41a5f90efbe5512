/**
 * Secrets by REST: written, never read. In: bodies with values, objects as they are stored. Out: what is stored (sealed), what is shown (names
 * of keys). Every answer with an object goes through `shown`.
 */
import { invalid, type StatusSubject } from '../../api/http/status-errors.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import { SECRET_MARKER } from '../../api/resources/secret-data.ts';
import type { SecretVault } from '../store/secret-vault.ts';
import { refuse } from './errors.ts';

export const SECRET_KIND = 'Secret';
const SUBJECT: StatusSubject = { group: '', plural: 'secrets' };

/** An object as clients may see it: of a Secret, its keys with a marker for each value. */
export function shown(object: MeshObject): MeshObject {
  if (object.kind !== SECRET_KIND) return object;
  const { sealed: _sealed, stringData: _strings, ...rest } = object;
  const data = Object.keys((object.data ?? {}) as object).map((key) => [key, SECRET_MARKER]);
  return { ...(rest as MeshObject), data: Object.fromEntries(data) };
}

/** The body of an update with the values that it leaves as they were (markers) put back, so that it can be judged like any other. */
export function withKeptValues(
  vault: SecretVault,
  body: Record<string, unknown>,
  before: MeshObject,
): Record<string, unknown> {
  const { data } = body;
  if (before.kind !== SECRET_KIND || data === null || typeof data !== 'object' || Array.isArray(data)) return body;
  const entries = Object.entries(data);
  if (!entries.some(([, value]) => value === SECRET_MARKER)) return body;
  const known = vault.open(before);
  const kept = entries.map(([key, value]) => [key, value === SECRET_MARKER ? (known[key] ?? value) : value]);
  return { ...body, data: Object.fromEntries(kept) };
}

/** An object as it is stored; other kinds as they are. Refuses what Kubernetes refuses of a change: another type, anything of an immutable one. */
export function asStored(vault: SecretVault, object: MeshObject, before?: MeshObject): MeshObject {
  if (object.kind !== SECRET_KIND) return object;
  const sealed = vault.seal(object, before);
  if (before === undefined) return sealed;
  const name = object.metadata.name;
  const no = (path: string, message: string) =>
    refuse(invalid({ ...SUBJECT, name }, [{ path, message, reason: 'FieldValueForbidden' }]));
  if (sealed.type !== before.type) no('type', 'field is immutable');
  if (before.immutable === true) {
    const message = 'field is immutable when `immutable` is set';
    if (sealed.immutable !== true) no('immutable', message);
    if (vault.versionOf(sealed) !== vault.versionOf(before)) no('data', message);
  }
  return sealed;
}

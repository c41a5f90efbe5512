import { LABEL, SUBDOMAIN } from '../identity/spiffe-id.ts';
import { checkLabels } from './formats.ts';
import type { ObjectMeta } from './object.ts';
import { DEFAULT_NAMESPACE, type KindInfo, MESH_CONFIG_NAME } from './registry.ts';
import { childPath, type Report, shown } from './report.ts';

/** Fields of metadata that the server keeps and a client may send back. */
const SERVER_FIELDS = ['uid', 'resourceVersion', 'creationTimestamp', 'generation'] as const;
/** Sent back by clients, never kept: nothing here has them. */
const DROPPED = ['managedFields', 'selfLink', 'deletionTimestamp', 'deletionGracePeriodSeconds'];
/** Would have to be acted upon. */
const UNSUPPORTED = ['finalizers', 'ownerReferences', 'generateName'];

const MAX_ANNOTATION_CHARS = 256 * 1024;

/**
 * Checks metadata and returns what is kept of it, namespace filled in. `namespace` is the request's (from its path); an object that names
 * another one is refused.
 */
export function checkMetadata(
  input: unknown,
  info: KindInfo,
  namespace: string | undefined,
  report: Report,
  onUnknown: (path: string) => void,
): ObjectMeta | undefined {
  if (input === null || typeof input !== 'object' || Array.isArray(input)) {
    report.required('metadata', 'an object needs metadata with a name');
    return undefined;
  }
  const meta = input as Record<string, unknown>;
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(meta)) {
    if (value === null || value === undefined || DROPPED.includes(key)) continue;
    const path = childPath('metadata', key);
    if (key === 'name' || key === 'namespace') takeString(out, key, value, path, report);
    else if (key === 'labels' || key === 'annotations') takeMap(out, key, value, path, report);
    else if ((SERVER_FIELDS as readonly string[]).includes(key)) takeServerField(out, key, value, path, report);
    else if (UNSUPPORTED.includes(key)) refuseUnlessEmpty(value, path, report);
    else onUnknown(path);
  }
  checkName(out.name, info, report);
  placeInNamespace(out, info, namespace, report);
  return out as unknown as ObjectMeta;
}

type Out = Record<string, unknown>;

function takeString(out: Out, key: string, value: unknown, path: string, report: Report): void {
  if (typeof value === 'string') out[key] = value;
  else report.add(path, `must be a string, found ${shown(value)}`, 'FieldValueTypeInvalid');
}

function takeServerField(out: Out, key: string, value: unknown, path: string, report: Report): void {
  const expected = key === 'generation' ? 'number' : 'string';
  if (typeof value === expected) out[key] = value;
  else report.add(path, `must be a ${expected}, found ${shown(value)}`, 'FieldValueTypeInvalid');
}

function takeMap(out: Out, key: string, value: unknown, path: string, report: Report): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    report.add(path, `must be an object of strings, found ${shown(value)}`, 'FieldValueTypeInvalid');
    return;
  }
  const entries = Object.entries(value);
  for (const [name, text] of entries) {
    if (typeof text !== 'string')
      report.add(childPath(path, name), `must be a string, found ${shown(text)}`, 'FieldValueTypeInvalid');
  }
  if (key === 'labels') checkLabels(value, path, report);
  else {
    checkLabels(Object.fromEntries(entries.map(([name]) => [name, ''])), path, report);
    const size = entries.reduce((sum, [name, text]) => sum + name.length + String(text).length, 0);
    if (size > MAX_ANNOTATION_CHARS) report.add(path, 'annotations are larger than 256 KiB', 'FieldValueTooLong');
  }
  out[key] = value;
}

function refuseUnlessEmpty(value: unknown, path: string, report: Report): void {
  if (value === '' || (Array.isArray(value) && value.length === 0)) return;
  report.add(path, 'not supported: nothing here would act on it', 'FieldValueNotSupported');
}

function checkName(name: unknown, info: KindInfo, report: Report): void {
  if (name === undefined || name === '') {
    report.required('metadata.name', 'a name is required');
    return;
  }
  if (typeof name !== 'string') return;
  if (info.kind === 'MeshConfig' && name !== MESH_CONFIG_NAME) {
    report.add('metadata.name', `there is one MeshConfig, called ${MESH_CONFIG_NAME}`);
  } else if (info.kind === 'Service' || info.kind === 'Namespace') {
    // Names that become DNS labels. RFC 1035 for services, as Kubernetes has it: no leading digit.
    if (!LABEL.test(name) || (info.kind === 'Service' && /^\d/.test(name)))
      report.add('metadata.name', `${shown(name)} is not a DNS label: lower-case letters, digits and -, at most 63`);
  } else if (!SUBDOMAIN.test(name)) {
    report.add('metadata.name', `${shown(name)} is not a valid name: lower-case letters, digits, - and ., at most 253`);
  }
}

function placeInNamespace(out: Out, info: KindInfo, namespace: string | undefined, report: Report): void {
  if (!info.namespaced) {
    if (out.namespace !== undefined && out.namespace !== '')
      report.add('metadata.namespace', `${info.kind} belongs to no namespace`, 'FieldValueForbidden');
    delete out.namespace;
    return;
  }
  const own = out.namespace === '' ? undefined : out.namespace;
  if (own !== undefined && namespace !== undefined && own !== namespace) {
    report.add(
      'metadata.namespace',
      `the namespace of the object (${shown(own)}) is not that of the request (${namespace})`,
    );
  }
  out.namespace = own ?? namespace ?? DEFAULT_NAMESPACE;
  if (typeof out.namespace === 'string' && !LABEL.test(out.namespace))
    report.add('metadata.namespace', `${shown(out.namespace)} is not a valid namespace name`);
}

/**
 * What a v1/Secret of a gateway holds, by Istio's key names: kubernetes.io/tls (`tls.crt`, `tls.key`, `ca.crt`, `ca.crl`) or generic
 * (`cert`, `key`, `cacert`, `crl`). In: data in base64, as Kubernetes has it. Out: PEM texts. Pure. Must never put a value into a message.
 */

/** What reads show in place of every value; in an update it means "as it was". `(hidden)` in base64, so that clients can decode it. */
export const SECRET_MARKER = 'KGhpZGRlbik=';

/** Keys by what they hold, the generic one first (Istio's order). */
export const SECRET_KEYS = {
  certificate: ['cert', 'tls.crt'],
  privateKey: ['key', 'tls.key'],
  ca: ['cacert', 'ca.crt'],
  crl: ['crl', 'ca.crl'],
} as const;

export type SecretPart = keyof typeof SECRET_KEYS;

/** PEM texts; what the Secret lacks is absent. */
export type SecretParts = { readonly [P in SecretPart]?: string };

interface SecretFields {
  readonly data?: Readonly<Record<string, string>>;
  readonly stringData?: Readonly<Record<string, string>>;
}

/** `data` with `stringData` written over it, all in base64: what Kubernetes stores. */
export function effectiveData({ data, stringData }: SecretFields): Readonly<Record<string, string>> {
  const written = Object.entries(stringData ?? {}).map(([key, text]) => [key, Buffer.from(text).toString('base64')]);
  return { ...data, ...Object.fromEntries(written) };
}

/** The parts of effective data. Keys that are none of ours are left out. */
export function secretParts(data: Readonly<Record<string, string>>): SecretParts {
  const parts: { [P in SecretPart]?: string } = {};
  for (const [part, keys] of Object.entries(SECRET_KEYS)) {
    const key = keys.find((name) => Object.hasOwn(data, name));
    if (key !== undefined) parts[part as SecretPart] = Buffer.from(data[key] as string, 'base64').toString('utf8');
  }
  return parts;
}

const SDS_PREFIX = 'kubernetes://';
const CA_SUFFIX = '-cacert';

/** Name under which Envoy asks for the certificate of a credential (Istio's own form); `namespace` is the gateway workload's. */
export function credentialSdsName(namespace: string, name: string): string {
  return `${SDS_PREFIX}${namespace}/${name}`;
}

/** The same for the CA that clients' certificates are verified by: of Secret NAME-cacert, else of NAME itself. */
export function caSdsName(namespace: string, name: string): string {
  return `${SDS_PREFIX}${namespace}/${name.endsWith(CA_SUFFIX) ? name : name + CA_SUFFIX}`;
}

/** Which Secrets (`NAMESPACE/NAME`, in order of preference) answer for an SDS name, and with what; undefined for other names (SVIDs ...). */
export function secretsOfSdsName(
  sdsName: string,
): { part: 'certificate' | 'ca'; secrets: readonly string[] } | undefined {
  if (!sdsName.startsWith(SDS_PREFIX)) return undefined;
  const name = sdsName.slice(SDS_PREFIX.length);
  if (!name.endsWith(CA_SUFFIX)) return { part: 'certificate', secrets: [name] };
  return { part: 'ca', secrets: [name, name.slice(0, -CA_SUFFIX.length)] };
}

/**
 * Who may use the operators' API. In: a bearer token, or a client certificate that TLS verified. Out: the principal, or nothing. Rows lie
 * in the store, so that a removed one is refused at its next request; tokens are kept as SHA-256 only.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { MeshError } from '../../api/errors.ts';
import { LABEL } from '../../api/identity/spiffe-id.ts';
import { subjectAltNames } from '../../api/identity/x509.ts';
import type { Verb } from '../../api/resources/registry.ts';
import { INTERNAL_PREFIX, type Store } from '../store/store.ts';

/** One who may call. `admin`: everything, all namespaces. `namespace`: objects of `namespaces` only (authorize.ts). */
export interface Principal {
  readonly name: string;
  readonly role: 'admin' | 'namespace';
  readonly namespaces: readonly string[];
  /** Only these verbs; absent: all. */
  readonly verbs?: readonly Verb[];
}

/** A principal as it is stored. */
export interface PrincipalRow extends Principal {
  /** SHA-256 (hex) of its bearer token; absent: by client certificate only. */
  readonly tokenHash?: string;
}

export const PRINCIPAL_PREFIX = `${INTERNAL_PREFIX}principals/`;
const ABSENT_HASH = createHash('sha256').update('no such principal').digest();

/**
 * Adds or replaces a principal and returns its new bearer token, which is kept nowhere else; an earlier token of the same name is dead from
 * now on. `certificate`: it has no token, and '' is returned. Throws PRINCIPAL_INVALID.
 */
export async function putPrincipal(
  store: Store,
  principal: Principal,
  credential: 'token' | 'certificate' = 'token',
): Promise<string> {
  const { name, role, namespaces, verbs } = principal;
  if (!LABEL.test(name)) throw invalid('the name of a principal is a DNS label');
  if (role === 'namespace' && namespaces.length === 0) throw invalid('a namespace principal needs a namespace');
  for (const namespace of namespaces) if (!LABEL.test(namespace)) throw invalid('a namespace is a DNS label');
  const token = credential === 'token' ? `${name}.${randomBytes(32).toString('base64url')}` : '';
  const row: PrincipalRow = {
    name,
    role,
    namespaces,
    verbs,
    ...(token === '' ? {} : { tokenHash: sha256(token).toString('hex') }),
  };
  await store.commit([{ key: PRINCIPAL_PREFIX + name, value: JSON.stringify(row) }]);
  return token;
}

/** Takes a principal away; its token and its certificate are refused from now on. False when there was none. */
export async function removePrincipal(store: Store, name: string): Promise<boolean> {
  const before = await store.revision();
  const result = await store.commit([{ key: PRINCIPAL_PREFIX + name, value: null }]);
  return result.revision !== before;
}

/** Every principal, by name. */
export async function listPrincipals(store: Store): Promise<readonly PrincipalRow[]> {
  const { entries } = await store.list(PRINCIPAL_PREFIX);
  return entries.map((entry) => JSON.parse(entry.value) as PrincipalRow);
}

/** The principal of a bearer token (attacker-controlled text), compared in constant time. */
export async function byToken(store: Store, token: string): Promise<Principal | undefined> {
  if (token.length > 256) return undefined;
  const row = await rowOf(store, token.slice(0, Math.max(0, token.indexOf('.'))));
  const expected = row?.tokenHash === undefined ? ABSENT_HASH : Buffer.from(row.tokenHash, 'hex');
  const same = timingSafeEqual(expected, sha256(token));
  return same && row?.tokenHash !== undefined ? row : undefined;
}

/**
 * The principal of a client certificate (DER) whose chain TLS has verified: its one URI is `spiffe://TD/operator/NAME`. Hosts' SVIDs come
 * from the same CA and name no operator, so they are refused here.
 */
export async function byCertificate(
  store: Store,
  der: Uint8Array,
  trustDomain: string,
): Promise<Principal | undefined> {
  let uris: string[];
  try {
    uris = subjectAltNames(der).uris;
  } catch {
    return undefined; // an odd certificate is no credential
  }
  const prefix = `spiffe://${trustDomain}/operator/`;
  const [uri, ...more] = uris;
  if (uri === undefined || more.length > 0 || !uri.startsWith(prefix)) return undefined;
  return await rowOf(store, uri.slice(prefix.length));
}

async function rowOf(store: Store, name: string): Promise<PrincipalRow | undefined> {
  if (!LABEL.test(name)) return undefined;
  const entry = await store.get(PRINCIPAL_PREFIX + name);
  return entry === undefined ? undefined : (JSON.parse(entry.value) as PrincipalRow);
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function invalid(message: string): MeshError {
  return new MeshError('PRINCIPAL_INVALID', message);
}

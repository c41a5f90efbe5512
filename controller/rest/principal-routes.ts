/**
 * Principals by REST (paths and bodies in api/http/operator-api.ts). In: authenticated calls of admins. Out: who may call, credentials shown once.
 * Must never: show a token or its hash later, leave the mesh without an admin, or let anybody give more than they have.
 */
import { MeshError } from '../../api/errors.ts';
import {
  OPERATOR_API,
  type PrincipalMade,
  type PrincipalRequest,
  type PrincipalShown,
} from '../../api/http/operator-api.ts';
import { badRequest, failure, forbidden, notFound } from '../../api/http/status-errors.ts';
import { LABEL } from '../../api/identity/spiffe-id.ts';
import { parseCsr } from '../../api/identity/x509.ts';
import type { Verb } from '../../api/resources/registry.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Authority } from '../ca/authority.ts';
import type { Store } from '../store/store.ts';
import { objectBody } from './bodies.ts';
import { type Answer, type Call, ok } from './call.ts';
import { refuse } from './errors.ts';
import type { Journal } from './journal.ts';
import { listPrincipals, type Principal, type PrincipalRow, putPrincipal, removePrincipal } from './principals.ts';

export interface PrincipalDeps {
  readonly store: Store;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly authority: Pick<Authority, 'issueOperatorFor'>;
}

const SUBJECT = { group: OPERATOR_API.group, plural: 'principals' };
const VERBS: readonly Verb[] = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];
const MAX_NAMESPACES = 1000;
const MAX_PRINCIPALS = 10_000;

/** True for a path that is answered here. */
export function isPrincipalPath(path: string): boolean {
  return path === OPERATOR_API.principals || path.startsWith(`${OPERATOR_API.principals}/`);
}

/** GET and POST principals, PUT and DELETE principals/NAME. */
export async function routePrincipals(deps: PrincipalDeps, call: Call): Promise<Answer> {
  const name = call.path.slice(OPERATOR_API.principals.length + 1);
  const verbs: Readonly<Record<string, Verb>> =
    name === '' ? { GET: 'list', POST: 'create' } : { PUT: 'update', DELETE: 'delete' };
  const verb = verbs[call.method];
  if (verb === undefined)
    return refuse(failure('MethodNotAllowed', 'the server does not allow this method on the requested resource'));
  const { principal } = call;
  if (principal.role !== 'admin' || principal.verbs?.includes(verb) === false)
    refuse(forbidden(SUBJECT, `User "${principal.name}" cannot ${verb} principals: that needs mesh-admin`));
  if (verb === 'list') return ok({ items: (await listPrincipals(deps.store)).map(shown) });
  if (verb === 'delete') return await remove(deps, call, name);
  const request = parseRequest(objectBody(call));
  if (verb === 'update' && request.name !== name) refuse(badRequest('name: another than that of the path'));
  return await put(deps, call, request, verb);
}

async function put(deps: PrincipalDeps, call: Call, request: PrincipalRequest, verb: Verb): Promise<Answer> {
  const { name, csr } = request;
  checkGift(call, request);
  const publicKey = csr === undefined ? undefined : keyOf(csr);
  const made = await deps.journal.audited(call, verb, [`Principal//${name}`], async (): Promise<PrincipalMade> => {
    const all = await listPrincipals(deps.store);
    const known = all.some((one) => one.name === name);
    if (verb === 'create' && known) refuse(failure('AlreadyExists', `principals.hostmesh.io "${name}" already exists`));
    if (verb === 'update' && !known) refuse(notFound({ ...SUBJECT, name }));
    if (!known && all.length >= MAX_PRINCIPALS)
      refuse(failure('Forbidden', `exceeded quota: at most ${MAX_PRINCIPALS} principals`));
    if (request.role !== 'admin') keepAnAdmin(all, name);
    const { role, namespaces = [], verbs } = request;
    const principal: Principal = {
      name,
      role,
      namespaces,
      ...(verbs === undefined ? {} : { verbs: verbs as readonly Verb[] }),
    };
    const token = await putPrincipal(deps.store, principal, publicKey === undefined ? 'token' : 'certificate');
    if (publicKey === undefined) return { ...shown({ ...principal, tokenHash: 'made' }), token };
    return { ...shown(principal), certificate: deps.authority.issueOperatorFor(name, publicKey, deps.clock.now()) };
  });
  return { ...ok(made, verb === 'create' ? 201 : 200), headers: { 'cache-control': 'no-store' } };
}

async function remove(deps: PrincipalDeps, call: Call, name: string): Promise<Answer> {
  await deps.journal.audited(call, 'delete', [`Principal//${name.slice(0, 63)}`], async () => {
    keepAnAdmin(await listPrincipals(deps.store), name);
    if (!LABEL.test(name) || !(await removePrincipal(deps.store, name)))
      refuse(notFound({ ...SUBJECT, name: name.slice(0, 63) }));
  });
  return ok({ name });
}

/** Somebody with every right has to be left. */
function keepAnAdmin(all: readonly PrincipalRow[], without: string): void {
  const full = (one: PrincipalRow) => one.role === 'admin' && one.verbs === undefined;
  if (all.some((one) => one.name === without && full(one)) && !all.some((one) => one.name !== without && full(one)))
    refuse(failure('Forbidden', `${without} is the last admin: make another one first`));
}

/** An admin who lacks verbs cannot give them. */
function checkGift({ principal }: Call, { name, verbs }: PrincipalRequest): void {
  if (principal.verbs === undefined) return;
  const lacking = (verbs ?? VERBS).filter((verb) => principal.verbs?.includes(verb as Verb) === false);
  if (lacking.length > 0)
    refuse(forbidden({ ...SUBJECT, name }, `User "${principal.name}" lacks ${lacking.join(', ')}, and cannot give it`));
}

function shown({ name, role, namespaces, verbs, tokenHash }: PrincipalRow): PrincipalShown {
  return {
    name,
    role,
    namespaces,
    ...(verbs === undefined ? {} : { verbs }),
    credential: tokenHash === undefined ? 'certificate' : 'token',
  };
}

function keyOf(csr: string) {
  try {
    return parseCsr(csr);
  } catch (error) {
    return refuse(badRequest(`csr: ${error instanceof MeshError ? error.message : 'not a certificate request'}`));
  }
}

function parseRequest(body: Record<string, unknown>): PrincipalRequest {
  const bad = (field: string, expected: string): never => refuse(badRequest(`${field}: expected ${expected}`));
  for (const key of Object.keys(body))
    if (!['name', 'role', 'namespaces', 'verbs', 'csr'].includes(key)) bad(key.slice(0, 50), 'no such field');
  const { name, role, namespaces = [], verbs, csr } = body;
  if (typeof name !== 'string' || !LABEL.test(name)) return bad('name', 'a DNS label');
  if (role !== 'admin' && role !== 'namespace') return bad('role', 'admin or namespace');
  if (
    !Array.isArray(namespaces) ||
    namespaces.length > MAX_NAMESPACES ||
    !namespaces.every((one) => typeof one === 'string' && LABEL.test(one))
  )
    return bad('namespaces', `names of namespaces, at most ${MAX_NAMESPACES}`);
  if (role === 'namespace' && namespaces.length === 0) return bad('namespaces', 'at least one for this role');
  if (role === 'admin' && namespaces.length > 0) return bad('namespaces', 'none: an admin has all');
  if (verbs !== undefined && !(Array.isArray(verbs) && verbs.length > 0 && verbs.every((verb) => VERBS.includes(verb))))
    return bad('verbs', `some of ${VERBS.join(', ')}`);
  if (csr !== undefined && typeof csr !== 'string') return bad('csr', 'a PEM certificate request');
  return {
    name,
    role,
    namespaces,
    ...(verbs === undefined ? {} : { verbs: [...new Set(verbs as Verb[])] }),
    ...(csr === undefined ? {} : { csr }),
  };
}

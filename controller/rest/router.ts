/** From a path and method to the one handler. In: an authenticated call. Out: an answer, or a watch to be run. Throws StatusError. */
import { OPERATOR_API } from '../../api/http/operator-api.ts';
import { badRequest, methodNotAllowed, unknownPath } from '../../api/http/status-errors.ts';
import type { Verb } from '../../api/resources/registry.ts';
import type { Logger } from '../../runtime/log.ts';
import { type Answer, booleanOf, type Call, type KindTarget, ok } from './call.ts';
import { discover, type ExtraResource, extraResource } from './discovery.ts';
import { refuse } from './errors.ts';
import { type LookDeps, lookIntoHost } from './look.ts';
import { applyTransaction, createToken, type OperatorDeps, readHosts, revokeHost } from './operator.ts';
import { isPrincipalPath, type PrincipalDeps, routePrincipals } from './principal-routes.ts';
import { getObject, listObjects } from './reads.ts';
import { noEvents, review } from './reviews.ts';
import { kindTarget, parseResourcePath, type ResourcePath } from './target.ts';
import { prepareWatch, type Watch } from './watch.ts';
import { createObject, deleteCollection, deleteObject, patchObject, updateObject } from './writes.ts';

export interface RouterDeps extends OperatorDeps, LookDeps, PrincipalDeps {
  readonly log: Logger;
}

export type Routed = { readonly answer: Answer } | { readonly watch: Watch };

export async function route(deps: RouterDeps, call: Call): Promise<Routed> {
  if (call.path === OPERATOR_API.apply) return { answer: await only(call, 'POST', () => applyTransaction(deps, call)) };
  if (call.path === OPERATOR_API.status)
    return { answer: await only(call, 'GET', async () => ok(await deps.status())) };
  if (isPrincipalPath(call.path)) return { answer: await routePrincipals(deps, call) };
  const discovered = discover(call);
  if (discovered !== undefined) return { answer: await only(call, 'GET', async () => discovered) };
  const path = parseResourcePath(call.path);
  if (path === undefined) return refuse(unknownPath());
  const extra = extraResource(path.group, path.version, path.plural);
  if (extra !== undefined) return await routeExtra(deps, call, path, extra);
  const target = kindTarget(path);
  if (target === undefined) return refuse(unknownPath());
  if (target.info.kind === 'Host') return { answer: await routeHost(deps, call, path, target) };
  if (path.subresource !== undefined) return refuse(unknownPath());
  const verb = verbOf(call, target);
  if (!target.info.verbs.includes(verb)) return refuse(methodNotAllowed());
  if (verb === 'watch') return { watch: prepareWatch(deps, call, target) };
  return { answer: await perform(deps, call, target, verb) };
}

async function only(call: Call, method: string, work: () => Promise<Answer>): Promise<Answer> {
  return call.method === method ? await work() : refuse(methodNotAllowed());
}

function verbOf(call: Call, { name }: KindTarget): Verb {
  const verbs: Readonly<Record<string, Verb>> =
    name === undefined
      ? { GET: 'list', POST: 'create', DELETE: 'deletecollection' }
      : { GET: 'get', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };
  const verb = verbs[call.method] ?? refuse(methodNotAllowed());
  return call.method === 'GET' && booleanOf(call.query, 'watch') ? 'watch' : verb;
}

async function perform(deps: RouterDeps, call: Call, target: KindTarget, verb: Verb): Promise<Answer> {
  switch (verb) {
    case 'get':
      return await getObject(deps, call, target);
    case 'list':
      return await listObjects(deps, call, target);
    case 'create':
      if (target.info.kind === 'JoinToken') return await createToken(deps, call, target);
      if (target.info.namespaced && target.namespace === undefined)
        return refuse(badRequest('an object is created in its namespace: POST to .../namespaces/NAMESPACE/...'));
      return await createObject(deps, call, target);
    case 'update':
      return await updateObject(deps, call, target);
    case 'patch':
      return await patchObject(deps, call, target);
    case 'delete':
      return await deleteObject(deps, call, target);
    case 'deletecollection':
      return await deleteCollection(deps, call, target);
    default:
      return refuse(methodNotAllowed());
  }
}

async function routeHost(deps: RouterDeps, call: Call, path: ResourcePath, target: KindTarget): Promise<Answer> {
  if (path.subresource === 'revoke') return await only(call, 'POST', () => revokeHost(deps, call, path.name as string));
  if (path.subresource === 'look') return await only(call, 'POST', () => lookIntoHost(deps, call, path.name as string));
  if (path.subresource !== undefined) return refuse(unknownPath());
  if (booleanOf(call.query, 'watch')) return refuse(methodNotAllowed());
  return await only(call, 'GET', () => readHosts(deps, call, target));
}

async function routeExtra(deps: RouterDeps, call: Call, path: ResourcePath, extra: ExtraResource): Promise<Routed> {
  if (path.subresource !== undefined) return refuse(unknownPath());
  if (extra.kind !== 'Event') {
    if (path.name !== undefined) return refuse(unknownPath());
    return { answer: await only(call, 'POST', async () => review(call, extra)) };
  }
  if (path.name !== undefined) return refuse(unknownPath());
  if (booleanOf(call.query, 'watch')) return { watch: { run: (_send, signal) => aborted(signal) } };
  return { answer: await only(call, 'GET', async () => noEvents(call, await deps.store.revision())) };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Get and list. In: authorized calls. Out: objects as they stand, or pages of one moment that `continue` tokens pin. */
import { badRequest, forbidden, gone, notFound } from '../../api/http/status-errors.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import type { Verb } from '../../api/resources/registry.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Store } from '../store/store.ts';
import { refusalOf } from './authorize.ts';
import { type Answer, type Call, integerOf, type KindTarget, ok } from './call.ts';
import { refuse } from './errors.ts';
import { objectOf } from './objects.ts';
import { formOf, type IncludeObject, type ListMeta, type Shown, showList, showObject } from './presentation.ts';
import { type Matcher, selectorOf } from './selectors.ts';
import { prefixOf, targetKey } from './target.ts';

export interface ReadDeps {
  readonly store: Store;
  readonly clock: Clock;
}

/** Refuses unless the caller may `verb` there. */
export function authorizeRead(call: Call, verb: Verb, target: KindTarget): void {
  const why = refusalOf(call.principal, { verb, ...target });
  if (why !== undefined) refuse(forbidden({ ...target.info, name: target.name }, why));
}

export async function getObject(deps: ReadDeps, call: Call, target: KindTarget): Promise<Answer> {
  authorizeRead(call, 'get', target);
  const entry = await deps.store.get(targetKey(target));
  if (entry === undefined) return refuse(notFound({ ...target.info, name: target.name }));
  return ok(showObject(objectOf(entry), shownOf(deps, call, target)));
}

export async function listObjects(deps: ReadDeps, call: Call, target: KindTarget): Promise<Answer> {
  authorizeRead(call, 'list', target);
  const shown = shownOf(deps, call, target);
  const matches = selectorOf(call.query);
  const limit = integerOf(call.query, 'limit') ?? 0;
  const from = await startOf(deps.store, call.query);
  const prefix = prefixOf(target);
  const objects: MeshObject[] = [];
  let { after } = from;
  let revision = from.revision;
  for (;;) {
    const page = await deps.store.list(prefix, {
      after,
      revision,
      limit: limit === 0 ? undefined : Math.max(limit, 100),
    });
    revision = page.revision;
    const taken = take(
      page.entries.map((entry) => ({ key: entry.key, object: objectOf(entry) })),
      matches,
      limit - objects.length,
    );
    objects.push(...taken.objects);
    after = taken.lastKey ?? after;
    const more = page.more || taken.cut;
    if (!more || (limit > 0 && objects.length >= limit)) {
      const metadata: ListMeta = {
        resourceVersion: String(revision),
        ...(more && { continue: tokenOf(revision, after ?? '') }),
      };
      return ok(showList(objects, metadata, shown));
    }
  }
}

/** The first `limit` matches (0 or less: all). `cut`: entries after the last one taken were left. */
function take(
  entries: readonly { readonly key: string; readonly object: MeshObject }[],
  matches: Matcher | undefined,
  limit: number,
): { objects: MeshObject[]; lastKey: string | undefined; cut: boolean } {
  const objects: MeshObject[] = [];
  for (const [i, { key, object }] of entries.entries()) {
    if (matches?.(object) ?? true) objects.push(object);
    if (limit > 0 && objects.length === limit) return { objects, lastKey: key, cut: i < entries.length - 1 };
  }
  return { objects, lastKey: entries.at(-1)?.key, cut: false };
}

export function shownOf(deps: Pick<ReadDeps, 'clock'>, call: Call, target: KindTarget): Shown {
  const includeObject = call.query.get('includeObject') || 'Metadata';
  if (!['None', 'Metadata', 'Object'].includes(includeObject))
    refuse(badRequest('includeObject: the values are None, Metadata, Object'));
  const { info, version } = target;
  return {
    info,
    version,
    form: formOf(call.accept),
    includeObject: includeObject as IncludeObject,
    now: deps.clock.now(),
  };
}

interface Token {
  readonly revision: number;
  readonly after: string;
}

function tokenOf(revision: number, after: string): string {
  return Buffer.from(JSON.stringify({ revision, after } satisfies Token)).toString('base64url');
}

/** Where a list starts: at its `continue` token, at the exact revision asked for, or at the present. */
async function startOf(store: Store, query: URLSearchParams): Promise<{ after?: string; revision?: number }> {
  const text = query.get('continue') ?? '';
  if (text !== '') return parseToken(text);
  const match = query.get('resourceVersionMatch') ?? '';
  const wanted = integerOf(query, 'resourceVersion');
  if (match === 'Exact') {
    if (wanted === undefined || wanted === 0)
      return refuse(badRequest('resourceVersionMatch Exact needs a resourceVersion'));
    return { revision: wanted };
  }
  if (match !== '' && match !== 'NotOlderThan')
    refuse(badRequest('resourceVersionMatch: the values are Exact, NotOlderThan'));
  if (wanted !== undefined && wanted > (await store.revision()))
    refuse(gone('the resource version is above the store’s own: list again'));
  return {};
}

function parseToken(text: string): Token {
  try {
    const { revision, after } = JSON.parse(Buffer.from(text.slice(0, 2000), 'base64url').toString('utf8')) as Token;
    if (Number.isSafeInteger(revision) && typeof after === 'string') return { revision, after };
  } catch {
    // told below
  }
  return refuse(badRequest('continue: not a token of this server'));
}

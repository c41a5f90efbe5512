/** What the server serves, in the shapes that kubectl and client libraries ask for. Pure; the answers never change while it runs. */
import { createHash } from 'node:crypto';
import { openapiSchemas, schemaName } from '../../api/resources/openapi.ts';
import { apiVersionOf, groups, KINDS, type KindInfo, type Verb } from '../../api/resources/registry.ts';
import { VERSION } from '../../api/version.ts';
import type { Answer, Call } from './call.ts';
import { mergeKeysOf, patchTypesOf } from './patch.ts';

/** A resource that discovery lists and that is no kind of the registry. */
export interface ExtraResource {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  readonly verbs: readonly Verb[];
  readonly shortNames?: readonly string[];
}

/** Reviews of oneself, and events (none are kept; kubectl describe asks for them). */
export const EXTRA_RESOURCES: readonly ExtraResource[] = [
  {
    group: '',
    version: 'v1',
    kind: 'Event',
    plural: 'events',
    namespaced: true,
    verbs: ['get', 'list', 'watch'],
    shortNames: ['ev'],
  },
  {
    group: 'authorization.k8s.io',
    version: 'v1',
    kind: 'SelfSubjectAccessReview',
    plural: 'selfsubjectaccessreviews',
    namespaced: false,
    verbs: ['create'],
  },
  {
    group: 'authorization.k8s.io',
    version: 'v1',
    kind: 'SelfSubjectRulesReview',
    plural: 'selfsubjectrulesreviews',
    namespaced: false,
    verbs: ['create'],
  },
  {
    group: 'authentication.k8s.io',
    version: 'v1',
    kind: 'SelfSubjectReview',
    plural: 'selfsubjectreviews',
    namespaced: false,
    verbs: ['create'],
  },
];

type Listed = Pick<KindInfo, 'kind' | 'plural' | 'namespaced' | 'verbs'> & {
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
};

function resourcesOf(group: string, version: string): Listed[] {
  const own = KINDS.filter((info) => info.group === group && info.versions.includes(version));
  const extra = EXTRA_RESOURCES.filter((one) => one.group === group && one.version === version);
  return [
    ...own,
    ...extra.map((one) => ({
      ...one,
      singular: one.kind.toLowerCase(),
      shortNames: one.shortNames ?? [],
      categories: [],
    })),
  ];
}

function allGroups(): readonly { readonly group: string; readonly versions: readonly string[] }[] {
  const extra = new Set(EXTRA_RESOURCES.map((one) => one.group).filter((group) => group !== ''));
  return [...groups(), ...[...extra].map((group) => ({ group, versions: ['v1'] }))];
}

/** The answer to a discovery or OpenAPI path, or undefined when `call.path` is none. */
export function discover(call: Call): Answer | undefined {
  const { path } = call;
  if (path === '/version') return json(versionInfo());
  if (path === '/api' || path === '/apis')
    return aggregated(call) ?? json(path === '/api' ? apiVersions() : apiGroupList());
  if (path === '/openapi/v3') return cached(call, OPENAPI_INDEX, 'no-cache, private');
  const openapi = OPENAPI[path];
  if (openapi !== undefined)
    return cached(call, openapi, call.query.has('hash') ? 'public, immutable' : 'no-cache, private');
  const one = /^\/apis\/([^/]+)$/.exec(path)?.[1];
  const group = allGroups().find((item) => item.group === one && item.group !== '');
  if (group !== undefined) return json({ kind: 'APIGroup', apiVersion: 'v1', ...apiGroup(group) });
  const [, named, version] = /^\/apis\/([^/]+)\/([^/]+)$/.exec(path) ?? [
    undefined,
    '',
    /^\/api\/([^/]+)$/.exec(path)?.[1],
  ];
  return version === undefined ? undefined : resourceList(named as string, version);
}

function json(body: unknown): Answer {
  return { code: 200, body };
}

function versionInfo(): object {
  // kubectl judges skew by major and minor: those of the Kubernetes whose conventions are served.
  return {
    major: '1',
    minor: '37',
    gitVersion: `v1.37.0+hostmesh.${VERSION}`,
    gitCommit: '',
    gitTreeState: 'clean',
    buildDate: '1970-01-01T00:00:00Z',
    goVersion: '',
    compiler: '',
    platform: 'linux',
  };
}

function apiVersions(): object {
  return { kind: 'APIVersions', apiVersion: 'v1', versions: ['v1'], serverAddressByClientCIDRs: [] };
}

function apiGroup({ group, versions }: { readonly group: string; readonly versions: readonly string[] }): object {
  const list = versions.map((version) => ({ groupVersion: `${group}/${version}`, version }));
  return { name: group, versions: list, preferredVersion: list[0] };
}

function apiGroupList(): object {
  return {
    kind: 'APIGroupList',
    apiVersion: 'v1',
    groups: allGroups()
      .filter(({ group }) => group !== '')
      .map(apiGroup),
  };
}

function resourceList(group: string, version: string): Answer | undefined {
  const listed = resourcesOf(group, version);
  if (listed.length === 0) return undefined;
  const resources = listed.map(({ plural, singular, namespaced, kind, verbs, shortNames, categories }) => ({
    name: plural,
    singularName: singular,
    namespaced,
    kind,
    verbs,
    ...(shortNames.length > 0 && { shortNames }),
    ...(categories.length > 0 && { categories }),
  }));
  return json({
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: group === '' ? version : `${group}/${version}`,
    resources,
  });
}

/** Aggregated discovery (apidiscovery.k8s.io), when the client asks for it: one answer instead of one a group. */
function aggregated(call: Call): Answer | undefined {
  const wanted = /application\/json;g=apidiscovery\.k8s\.io;v=(v2|v2beta1);as=APIGroupDiscoveryList/.exec(
    call.accept.replaceAll(' ', ''),
  );
  if (wanted === null) return undefined;
  const version = wanted[1] as string;
  const items = allGroups()
    .filter(({ group }) => (group === '') === (call.path === '/api'))
    .map(({ group, versions }) => ({
      metadata: { name: group, creationTimestamp: null },
      versions: versions.map((one) => ({
        version: one,
        freshness: 'Current',
        resources: resourcesOf(group, one).map((info) => discovered(info, group, one)),
      })),
    }));
  const body = { kind: 'APIGroupDiscoveryList', apiVersion: `apidiscovery.k8s.io/${version}`, metadata: {}, items };
  const contentType = `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`;
  return cached(call, documentOf(body), 'public', contentType);
}

function discovered(info: Listed, group: string, version: string): object {
  const { plural, kind, namespaced, singular, verbs, shortNames, categories } = info;
  return {
    resource: plural,
    responseKind: { group, version, kind },
    scope: namespaced ? 'Namespaced' : 'Cluster',
    singularResource: singular,
    verbs,
    ...(shortNames.length > 0 && { shortNames }),
    ...(categories.length > 0 && { categories }),
  };
}

interface DocumentWithHash {
  readonly body: object;
  readonly hash: string;
}

function documentOf(body: object): DocumentWithHash {
  return { body, hash: createHash('sha256').update(JSON.stringify(body)).digest('hex').toUpperCase() };
}

/** 304 when the client has it; an immutable document tells kubectl to keep it. */
function cached(
  call: Call,
  { body, hash }: DocumentWithHash,
  cacheControl: string,
  contentType = 'application/json',
): Answer {
  const etag = `"${hash}"`;
  const expires = cacheControl.includes('immutable') ? { expires: 'Thu, 31 Dec 2099 00:00:00 GMT' } : {};
  const headers = { etag, 'cache-control': cacheControl, vary: 'Accept', ...expires };
  if (call.ifNoneMatch.split(',').some((one) => one.trim() === etag)) return { code: 304, body: undefined, headers };
  return { code: 200, body, contentType, headers };
}

/** One OpenAPI v3 document: schemas and, for each kind, the patch operation by which kubectl tells which parameters are taken. */
function openapiDocument(group: string, version: string): object {
  const groupVersion = group === '' ? version : `${group}/${version}`;
  const root = group === '' ? `/api/${version}` : `/apis/${groupVersion}`;
  const paths: Record<string, object> = {};
  for (const info of KINDS.filter((one) => one.group === group && one.versions.includes(version))) {
    const path = `${root}/${info.namespaced ? 'namespaces/{namespace}/' : ''}${info.plural}/{name}`;
    paths[path] = operations(info, version);
  }
  const schemas = structuredClone(openapiSchemas(groupVersion)) as Record<string, Schema>;
  for (const info of KINDS) {
    for (const [list, key] of Object.entries(mergeKeysOf(info.kind)))
      markMerged(schemas[schemaName(info, version)], list, key);
  }
  return { openapi: '3.0.0', info: { title: 'Hostmesh', version: VERSION }, paths, components: { schemas } };
}

type Schema = Record<string, unknown> & { properties?: Record<string, Schema> };

/** Tells clients that a list merges by key: they make strategic merge patches by it (kubectl apply). */
function markMerged(schema: Schema | undefined, list: string, key: string): void {
  let node = schema;
  for (const part of list.split('.')) node = node?.properties?.[part];
  if (node === undefined) return;
  node['x-kubernetes-patch-strategy'] = 'merge';
  node['x-kubernetes-patch-merge-key'] = key;
}

const QUERY: Readonly<Record<string, string>> = {
  dryRun: 'All: nothing is stored.',
  fieldManager: 'Kept in the audit log.',
  fieldValidation: 'Strict (default), Warn, Ignore.',
};

function operations(info: KindInfo, version: string): object {
  const gvk = { group: info.group, version, kind: info.kind };
  const schema = { $ref: `#/components/schemas/${schemaName(info, version)}` };
  const answer = { 200: { description: 'OK', content: { 'application/json': { schema } } } };
  const parameters = Object.entries(QUERY).map(([name, description]) => ({
    name,
    in: 'query',
    description,
    schema: { type: 'string', uniqueItems: true },
  }));
  const operation = (action: Verb, more: object) => ({
    'x-kubernetes-action': action,
    'x-kubernetes-group-version-kind': gvk,
    responses: answer,
    ...more,
  });
  const content = Object.fromEntries(patchTypesOf(info).map((type) => [type, { schema: { type: 'object' } }]));
  return {
    ...(info.verbs.includes('get') && { get: operation('get', {}) }),
    ...(info.verbs.includes('patch') && { patch: operation('patch', { parameters, requestBody: { content } }) }),
    ...(info.verbs.includes('update') && {
      put: operation('update', { parameters, requestBody: { content: { 'application/json': { schema } } } }),
    }),
    parameters: [{ name: 'name', in: 'path', required: true, schema: { type: 'string' } }],
  };
}

const OPENAPI: Readonly<Record<string, DocumentWithHash>> = Object.fromEntries(
  groups().flatMap(({ group, versions }) =>
    versions.map((version) => [
      group === '' ? `/openapi/v3/api/${version}` : `/openapi/v3/apis/${group}/${version}`,
      documentOf(openapiDocument(group, version)),
    ]),
  ),
);

const OPENAPI_INDEX = documentOf({
  paths: Object.fromEntries(
    Object.entries(OPENAPI).map(([path, { hash }]) => [
      path.replace('/openapi/v3/', ''),
      { serverRelativeURL: `${path}?hash=${hash}` },
    ]),
  ),
});

/** apiVersion of the answers of a resource that is none of the registry's kinds. */
export function extraResource(group: string, version: string, plural: string): ExtraResource | undefined {
  return EXTRA_RESOURCES.find((one) => one.group === group && one.version === version && one.plural === plural);
}

/** The registry's apiVersion text for an extra resource. */
export function extraApiVersion(one: ExtraResource): string {
  return apiVersionOf({ ...one, versions: [one.version] } as unknown as KindInfo);
}

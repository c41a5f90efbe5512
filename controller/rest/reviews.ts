/** What a client may ask of itself (kubectl auth can-i, auth whoami), and the events that nobody writes. Pure: answers by principal and body. */
import { badRequest } from '../../api/http/status-errors.ts';
import { KINDS, type Verb } from '../../api/resources/registry.ts';
import { refusalOf } from './authorize.ts';
import { objectBody } from './bodies.ts';
import { type Answer, type Call, ok } from './call.ts';
import { type ExtraResource, extraApiVersion } from './discovery.ts';
import { refuse } from './errors.ts';
import { formOf } from './presentation.ts';

/** POST of one of the reviews. */
export function review(call: Call, resource: ExtraResource): Answer {
  const body = objectBody(call);
  const apiVersion = extraApiVersion(resource);
  if (body.kind !== resource.kind || body.apiVersion !== apiVersion)
    refuse(badRequest(`expected a ${resource.kind} of ${apiVersion}`));
  const spec = (body.spec ?? {}) as Record<string, unknown>;
  const status =
    resource.kind === 'SelfSubjectAccessReview'
      ? accessStatus(call, spec)
      : resource.kind === 'SelfSubjectRulesReview'
        ? rulesStatus(call, String(spec.namespace ?? ''))
        : {
            userInfo: {
              username: call.principal.name,
              groups: ['system:authenticated', `hostmesh:${call.principal.role}`],
            },
          };
  return ok({ kind: resource.kind, apiVersion, metadata: {}, spec, status }, 201);
}

function accessStatus(call: Call, spec: Record<string, unknown>): object {
  const attributes = (spec.resourceAttributes ?? {}) as Record<string, unknown>;
  // Paths without a resource (discovery, version) are open to all who are authenticated.
  if (spec.resourceAttributes === undefined) return { allowed: spec.nonResourceAttributes !== undefined };
  const text = (key: string): string => (typeof attributes[key] === 'string' ? (attributes[key] as string) : '');
  const [group, plural, verb] = [text('group'), text('resource'), text('verb')];
  const wildcard = group === '*' || plural === '*' || verb === '*';
  if (wildcard)
    return call.principal.role === 'admin' && call.principal.verbs === undefined
      ? { allowed: true }
      : { allowed: false };
  const info = KINDS.find((one) => one.plural === plural && one.group === group);
  if (info === undefined || text('subresource') !== '')
    return { allowed: false, reason: 'no such resource is served here' };
  if (!info.verbs.includes(verb as Verb)) return { allowed: false, reason: `${plural} cannot be asked to ${verb}` };
  const why = refusalOf(call.principal, {
    verb: verb as Verb,
    info,
    namespace: text('namespace') || undefined,
    name: text('name') || undefined,
  });
  return why === undefined ? { allowed: true } : { allowed: false, reason: why };
}

function rulesStatus(call: Call, namespace: string): object {
  const resourceRules = KINDS.flatMap((info) => {
    const place = info.namespaced ? namespace : undefined;
    const verbs = info.verbs.filter(
      (verb) => refusalOf(call.principal, { verb, info, namespace: place }) === undefined,
    );
    return verbs.length === 0 ? [] : [{ verbs, apiGroups: [info.group], resources: [info.plural] }];
  });
  const nonResourceRules = [
    { verbs: ['get'], nonResourceURLs: ['/api', '/api/*', '/apis', '/apis/*', '/openapi', '/openapi/*', '/version'] },
  ];
  return { resourceRules, nonResourceRules, incomplete: false };
}

const EVENT_COLUMNS = ['Last Seen', 'Type', 'Reason', 'Object', 'Message'];

/** The empty list of events, plain or as a Table. */
export function noEvents(call: Call, revision: number): Answer {
  const metadata = { resourceVersion: String(revision) };
  const form = formOf(call.accept);
  if (form.as !== 'Table') return ok({ kind: 'EventList', apiVersion: 'v1', metadata, items: [] });
  const columnDefinitions = EVENT_COLUMNS.map((name) => ({
    name,
    type: 'string',
    format: '',
    description: name,
    priority: 0,
  }));
  return ok({ kind: 'Table', apiVersion: `meta.k8s.io/${form.version}`, metadata, columnDefinitions, rows: [] });
}

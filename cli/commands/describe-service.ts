import { hasCode } from '../../api/errors.ts';
import type { ServiceAnswer } from '../../api/http/host-query.ts';
import type { Host } from '../../api/http/operator-api.ts';
import { analyze } from '../../api/resources/analysis/analyze.ts';
import { mtlsModeOf } from '../../api/resources/analysis/authentication.ts';
import { targetOf } from '../../api/resources/analysis/destinations.ts';
import type { Finding } from '../../api/resources/analysis/finding.ts';
import {
  fullHost,
  isVisible,
  type MeshFacts,
  meshFacts,
  namespaceOf,
  type ServiceFact,
} from '../../api/resources/analysis/model.ts';
import { type SubsetFact, subsetsOf } from '../../api/resources/analysis/subsets.ts';
import { exportToOf } from '../../api/resources/export-to.ts';
import { hostWithin } from '../../api/resources/formats.ts';
import { keyOf, type MeshObject } from '../../api/resources/object.ts';
import { type KindInfo, kindByName } from '../../api/resources/registry.ts';
import type { ApiClient } from '../client/api-client.ts';
import { lookInto } from '../client/look.ts';
import { listObjects } from '../client/resources.ts';
import { type CliContext, EXIT, type GlobalOptions } from '../context.ts';
import { type OutputFormat, renderData, versioned } from '../output/json.ts';
import { plain, renderTable } from '../output/table.ts';

/** One thing that serves, or may. `health`: as the hosts see it; `not heard`, `no host` where nobody says. */
interface Endpoint {
  readonly host: string;
  readonly workload: string;
  readonly address: string;
  readonly health: string;
  readonly subsets: readonly string[];
  readonly locality: string;
}

/** What `meshctl describe service` tells of one host of a Service or ServiceEntry. */
interface Described {
  readonly host: string;
  readonly object: string;
  readonly addresses: readonly string[];
  /** The host whose view of addresses and endpoints this is; absent: none answered, so it is what grants and reports say. */
  readonly seenBy?: string;
  readonly visibleTo: readonly string[];
  readonly ports: readonly {
    readonly number: number;
    readonly name: string;
    readonly protocol: string;
    readonly target: string;
    readonly mtls: string;
  }[];
  readonly endpoints: readonly Endpoint[];
  readonly rules: readonly string[];
  readonly warnings: readonly Finding[];
}

const KINDS_READ = [
  'Service',
  'ServiceEntry',
  'WorkloadGroup',
  'WorkloadEntry',
  'VirtualService',
  'DestinationRule',
  'Gateway',
  'PeerAuthentication',
  'AuthorizationPolicy',
];
/** Belongs to the mesh: who may read one namespace only does without its defaults. */
const MESH_WIDE = ['MeshConfig'];
const HOST_KIND = kindByName('Host') as KindInfo;
/** Hosts that are asked for their view, until one answers. */
const MAX_ASKED = 3;

/** `meshctl describe service NAME`: who serves it, by which names and ports, which rules shape it, who sees it, what looks wrong. */
export async function describeService(
  context: CliContext,
  client: ApiClient,
  object: MeshObject,
  options: GlobalOptions & { readonly output?: OutputFormat },
): Promise<number> {
  const { objects, complete } = await readObjects(client, namespaceOf(object));
  const facts = meshFacts(objects, complete);
  const hosts = await readHosts(client);
  const described: Described[] = [];
  for (const service of facts.services.filter(({ key }) => key === keyOf(object))) {
    const seen = await seenBy(context, options, service, hosts);
    described.push(describeOne(service, facts, hosts, seen, warningsOf(service, objects, complete, hosts)));
  }
  if (options.output === 'json' || options.output === 'yaml')
    context.out(renderData(versioned('ServiceDescription', { object, services: described }), options.output).trimEnd());
  else context.out(described.map(text).join('\n\n'));
  return EXIT.ok;
}

/** All namespaces where the credential may read them, else the service's own. */
async function readObjects(client: ApiClient, namespace: string) {
  const read = async (kinds: readonly string[], scope: { namespace?: string }) => {
    const objects: MeshObject[] = [];
    for (const kind of kinds) objects.push(...(await listObjects(client, kindByName(kind) as KindInfo, scope)));
    return objects;
  };
  try {
    return { objects: await read([...KINDS_READ, ...MESH_WIDE], {}), complete: true };
  } catch (error) {
    if (!isForbidden(error)) throw error;
    return { objects: await read(KINDS_READ, { namespace }), complete: false };
  }
}

async function readHosts(client: ApiClient): Promise<readonly Host[]> {
  try {
    return ((await listObjects(client, HOST_KIND, {})) as unknown as Host[]).filter((host) => !host.spec.revoked);
  } catch (error) {
    if (isForbidden(error)) return [];
    throw error;
  }
}

function isForbidden(error: unknown): boolean {
  return hasCode(error, 'API_REFUSED') && error.details.httpStatus === 403;
}

interface Seen extends ServiceAnswer {
  readonly by: string;
}

/** The service as one of the hosts sees it: preferably one that serves in its namespace. */
async function seenBy(
  context: CliContext,
  options: GlobalOptions,
  service: ServiceFact,
  hosts: readonly Host[],
): Promise<Seen | undefined> {
  const near = (host: Host) => host.spec.workloadGroups.some((group) => group.startsWith(`${service.namespace}/`));
  const heard = hosts.filter((host) => host.status !== undefined);
  for (const host of [...heard.filter(near), ...heard.filter((one) => !near(one))].slice(0, MAX_ASKED)) {
    const { name } = host.metadata;
    try {
      const answer = await lookInto(context, options, name, { ask: 'service', host: service.host });
      const found = answer.services?.find((one) => one.namespace === service.namespace);
      if (found !== undefined) return { ...found, by: name };
    } catch (error) {
      if (!hasCode(error, 'API_REFUSED')) throw error;
    }
  }
  return undefined;
}

function warningsOf(
  service: ServiceFact,
  objects: readonly MeshObject[],
  complete: boolean,
  hosts: readonly Host[],
): Finding[] {
  const grants = hosts.map(({ metadata, spec }) => ({ name: metadata.name, ...spec }));
  const about = new Set([
    service.key,
    ...service.members.map((member) => member.key),
    ...shaping(objects, service).map(keyOf),
  ]);
  return analyze(objects, { complete, about, ...(hosts.length === 0 ? {} : { hosts: grants }) });
}

/** VirtualServices and DestinationRules for the host. */
function shaping(objects: readonly MeshObject[], service: ServiceFact): MeshObject[] {
  return objects.filter((object) => {
    const spec = (object.spec ?? {}) as { host?: string; hosts?: readonly string[] };
    const names =
      object.kind === 'DestinationRule'
        ? [spec.host ?? '']
        : object.kind === 'VirtualService'
          ? (spec.hosts ?? [])
          : [];
    return names.some((name) => hostWithin(service.host, fullHost(name, namespaceOf(object))));
  });
}

function describeOne(
  service: ServiceFact,
  facts: MeshFacts,
  hosts: readonly Host[],
  seen: Seen | undefined,
  warnings: readonly Finding[],
): Described {
  const subsets = subsetsOf(service.host, facts);
  return {
    host: service.host,
    object: service.key,
    addresses: seen?.addresses ?? [],
    ...(seen === undefined ? {} : { seenBy: seen.by }),
    visibleTo: service.exportTo.length === 0 ? ['*'] : service.exportTo,
    ports: service.ports.map((port) => ({
      number: port.number,
      name: port.name,
      protocol: port.declared || port.name.split('-')[0] || 'found out',
      target: String(port.targetPort ?? port.number),
      mtls: modesOf(service, port.targetPort ?? port.number, port.name, facts),
    })),
    endpoints: seen === undefined ? granted(service, subsets, hosts) : live(seen, subsets),
    rules: rulesOf(service, facts),
    warnings,
  };
}

/** What servers take at a port; several where WorkloadGroups differ. */
function modesOf(service: ServiceFact, target: number | string, name: string, facts: MeshFacts): string {
  const groups = service.members.filter((member) => member.kind === 'group');
  return [...new Set(groups.map((member) => mtlsModeOf(member, targetOf(member, target, name), facts).mode))].join(
    ', ',
  );
}

function live({ endpoints }: ServiceAnswer, subsets: readonly SubsetFact[]): Endpoint[] {
  return endpoints.map(({ id, addresses, health, labels, locality, ports }) => {
    const [host = '', ...workload] = id.split('/');
    const [port] = [...new Set(Object.values(ports))];
    const [address = ''] = addresses;
    const joined = workload.join('/');
    return {
      host: joined === '' ? '' : host,
      workload: joined === '' ? id : joined,
      address: port === undefined ? address : `${address.includes(':') ? `[${address}]` : address}:${port}`,
      health,
      subsets: subsetNames(subsets, labels),
      locality,
    };
  });
}

/** Without a host that answers: what grants allow, with the health that hosts reported. */
function granted(service: ServiceFact, subsets: readonly SubsetFact[], hosts: readonly Host[]): Endpoint[] {
  return service.members.flatMap((member): Endpoint[] => {
    const group = `${member.namespace}/${member.name}`;
    const base = { workload: group, subsets: subsetNames(subsets, member.labels), locality: '' };
    if (member.kind !== 'group') return [{ ...base, host: '', address: '', health: 'not heard' }];
    const serving = hosts.filter((host) => host.spec.workloadGroups.includes(group));
    if (serving.length === 0) return [{ ...base, host: '', address: '', health: 'no host' }];
    return serving.map((host) => ({
      ...base,
      host: host.metadata.name,
      address: host.spec.gossipAddresses[0]?.replace(/:\d+$/, '') ?? '',
      health: host.status?.workloads.find((one) => one.group === group)?.health ?? 'not heard',
    }));
  });
}

function subsetNames(subsets: readonly SubsetFact[], labels: Readonly<Record<string, string>>): string[] {
  return [...new Set(subsets.filter((subset) => subset.selects(labels)).map((subset) => subset.name))];
}

/** Objects that shape calls to the service, one line each. */
function rulesOf(service: ServiceFact, facts: MeshFacts): string[] {
  const objects = ['VirtualService', 'DestinationRule'].flatMap((kind) => facts.list(kind));
  const lines = shaping(objects, service).map((object) => {
    const spec = (object.spec ?? {}) as {
      gateways?: readonly string[];
      subsets?: readonly { name?: string }[];
    };
    const exportTo = exportToOf(object, facts.defaults);
    const more = [
      ...(spec.subsets === undefined ? [] : [`subsets ${spec.subsets.map((one) => one.name).join(', ')}`]),
      ...(spec.gateways === undefined ? [] : [`gateways ${spec.gateways.join(', ')}`]),
      ...(isVisible({ exportTo, namespace: namespaceOf(object) }, '*') || exportTo.length === 0
        ? []
        : [`for ${exportTo.join(', ')} only`]),
    ];
    return `${keyOf(object)}${more.length === 0 ? '' : `: ${more.join('; ')}`}`;
  });
  const policies = new Set<string>();
  for (const member of service.members.filter((one) => one.kind === 'group')) {
    for (const port of service.ports) {
      const { by, mode } = mtlsModeOf(member, targetOf(member, port.targetPort ?? port.number, port.name), facts);
      if (by !== undefined)
        policies.add(
          `PeerAuthentication/${by}: ${mode} for WorkloadGroup ${member.namespace}/${member.name}, port ${port.number}`,
        );
    }
  }
  return [...lines, ...policies];
}

function text(one: Described): string {
  const visible = one.visibleTo.map((to) =>
    to === '*' ? 'every namespace' : to === '.' ? 'its own namespace' : to === '~' ? 'nobody' : to,
  );
  const ports = one.ports.map((port) => [String(port.number), port.name, port.protocol, port.target, port.mtls]);
  const endpoints = one.endpoints.map((endpoint) => [
    endpoint.host,
    endpoint.workload,
    endpoint.address,
    endpoint.health,
    endpoint.subsets.join(','),
    endpoint.locality,
  ]);
  const lines = [
    `Service:      ${one.host}  (${one.object})`,
    `Addresses:    ${one.addresses.join(', ') || (one.seenBy === undefined ? 'not known: no host answers' : 'none')}`,
    `Visible to:   ${visible.join(', ')}`,
  ].map(plain);
  return [
    ...lines,
    'Ports:',
    ...indented(renderTable(['port', 'name', 'protocol', 'target', 'mtls of servers'], ports)),
    `Endpoints${one.seenBy === undefined ? ' (by grants and reports)' : ` (as ${plain(one.seenBy)} sees them)`}:`,
    ...(endpoints.length === 0
      ? ['  none']
      : indented(renderTable(['host', 'workload', 'address', 'health', 'subsets', 'locality'], endpoints))),
    'Rules:',
    ...(one.rules.length === 0 ? ['  none'] : one.rules.map((rule) => `  ${plain(rule)}`)),
    ...(one.warnings.length === 0 ? ['Problems:     none'] : ['Problems:']),
    ...one.warnings.map(({ severity, code, object, path, message }) =>
      plain(`  - ${severity} [${code}] ${object}${path === '' ? '' : ` ${path}`}: ${message}`),
    ),
  ].join('\n');
}

function indented(table: string): string[] {
  return table.split('\n').map((line) => `  ${line}`);
}

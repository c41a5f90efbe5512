/**
 * What a principal may do (DESIGN 3.2, "Who may write"). Pure. In: principal, verb, kind and place, and for writes the object and
 * MeshConfig. Out: undefined, or why not, in words that end the sentence "... is forbidden: ".
 */
import type { MeshObject } from '../../api/resources/object.ts';
import { type KindInfo, ROOT_NAMESPACE, type Verb } from '../../api/resources/registry.ts';
import type { Principal } from './principals.ts';

export interface Access {
  readonly verb: Verb;
  /** Group, plural and scope suffice: reviews ask of resources that are not ours too. */
  readonly info: Pick<KindInfo, 'group' | 'plural' | 'namespaced' | 'kind'>;
  readonly namespace?: string;
  readonly name?: string;
}

const READS: readonly string[] = ['get', 'list', 'watch'];

/** May `principal` do this at all, whatever the object says? */
export function refusalOf(principal: Principal, access: Access): string | undefined {
  const { verb, info, namespace, name } = access;
  const place = !info.namespaced
    ? 'at the cluster scope'
    : namespace === undefined
      ? 'in all namespaces'
      : `in the namespace "${namespace}"`;
  const no = `User "${principal.name}" cannot ${verb} resource "${info.plural}" in API group "${info.group}" ${place}`;
  if (principal.verbs !== undefined && !principal.verbs.includes(verb)) return no;
  if (principal.role === 'admin') return undefined;
  if (info.namespaced) {
    if (namespace === undefined || !principal.namespaces.includes(namespace)) return no;
    if (namespace === ROOT_NAMESPACE && !READS.includes(verb))
      return `${no}: it holds for the whole mesh, so that needs mesh-admin`;
    return undefined;
  }
  if (info.kind === 'MeshConfig' && READS.includes(verb)) return undefined;
  if (info.kind === 'Namespace' && verb === 'get' && name !== undefined && principal.namespaces.includes(name))
    return undefined;
  return no;
}

/**
 * May a namespace principal's object touch these hosts? Hosts of other namespaces, and external ones that MeshConfig gives to another or
 * to nobody, only when nobody else sees the object: exportTo ["."]. The same holds for ServiceEntry.addresses: they would capture
 * others' traffic. A Gateway may take names that are nobody's, but none of another's: at a shared gateway it would stand before theirs.
 */
export function ownershipRefusal(
  principal: Principal,
  object: MeshObject,
  meshConfig: MeshObject | undefined,
): string | undefined {
  if (principal.role === 'admin') return undefined;
  const namespace = object.metadata.namespace ?? '';
  const spec = (object.spec ?? {}) as { exportTo?: readonly string[]; addresses?: readonly string[] };
  const exportTo = spec.exportTo ?? [];
  if (exportTo.length > 0 && exportTo.every((to) => to === '.' || to === namespace)) return undefined;
  // A ServiceEntry's host is a name as it stands: without a dot it would be what every namespace calls its own service, or a machine, by.
  const owner = (host: string) =>
    object.kind === 'ServiceEntry' && !host.includes('.')
      ? declaredOwner(host.toLowerCase(), meshConfig)
      : ownerOf(host, namespace, meshConfig);
  if (object.kind === 'Gateway') {
    const taken = gatewayHosts(object).find((host) => ![undefined, namespace].includes(owner(host)));
    if (taken === undefined) return undefined;
    return `the host ${taken} belongs to the namespace ${owner(taken)}: only that may take it at a gateway`;
  }
  const foreign = hostsOf(object).find((host) => owner(host) !== namespace);
  const keep = `so exportTo must be ["."] (valid in ${namespace} only)`;
  if (foreign !== undefined) {
    const theirs = owner(foreign);
    return theirs === undefined
      ? `no namespace owns the host ${foreign} (MeshConfig.hostOwnership), ${keep}`
      : `the host ${foreign} belongs to the namespace ${theirs}, ${keep}`;
  }
  if (object.kind === 'ServiceEntry' && (spec.addresses ?? []).length > 0)
    return `spec.addresses would capture the traffic of other namespaces, ${keep}`;
  const port = object.kind === 'ServiceEntry' ? catchingPort(object) : undefined;
  if (port !== undefined)
    return `without addresses, port ${port} would capture what other namespaces send to that port of any address, ${keep}`;
  return undefined;
}

/**
 * A port of a ServiceEntry that takes connections to that number wherever they go: resolution NONE or DYNAMIC_DNS has no address of its own.
 * TLS is told apart by its server name, HTTP by its Host, which at a port other than HTTP's own would take bytes of others for HTTP.
 */
function catchingPort(object: MeshObject): number | undefined {
  const { resolution = 'NONE', ports = [] } = (object.spec ?? {}) as {
    resolution?: string;
    ports?: readonly { number?: number; protocol?: string }[];
  };
  if (resolution !== 'NONE' && resolution !== 'DYNAMIC_DNS') return undefined;
  const own = ({ number, protocol = '' }: { number?: number; protocol?: string }) =>
    ['TLS', 'HTTPS'].includes(protocol.toUpperCase()) ||
    (number === 80 && /^(HTTP|HTTP2|GRPC|GRPC-WEB)$/i.test(protocol));
  return ports.find((port) => !own(port))?.number;
}

/** Hosts whose traffic the object shapes for those who see it. */
function hostsOf(object: MeshObject): readonly string[] {
  const spec = (object.spec ?? {}) as { hosts?: readonly string[]; host?: string };
  if (object.kind === 'VirtualService' || object.kind === 'ServiceEntry') return spec.hosts ?? [];
  if (object.kind === 'DestinationRule') return spec.host === undefined ? [] : [spec.host];
  return [];
}

/** Names that a Gateway's servers take, without the namespace before them. */
function gatewayHosts(object: MeshObject): readonly string[] {
  const { servers = [] } = (object.spec ?? {}) as { servers?: readonly { hosts?: readonly string[] }[] };
  return servers.flatMap(({ hosts = [] }) => hosts.map((host) => host.slice(host.indexOf('/') + 1)));
}

const SERVICE = /^(?:.+)\.([a-z0-9-]+)\.svc\.cluster\.local$/;

/** The namespace that owns `host`; a name without a dot is a service of the object's own. The longest pattern of MeshConfig decides. */
export function ownerOf(host: string, namespace: string, meshConfig: MeshObject | undefined): string | undefined {
  const name = host.toLowerCase();
  if (!name.includes('.') && !name.includes('*')) return namespace;
  const service = SERVICE.exec(name);
  return service === null ? declaredOwner(name, meshConfig) : service[1];
}

/** Whom MeshConfig gives the name (lower case) to. */
function declaredOwner(name: string, meshConfig: MeshObject | undefined): string | undefined {
  const spec = meshConfig?.spec as
    | { hostOwnership?: readonly { hosts?: readonly string[]; namespace?: string }[] }
    | undefined;
  let best: { length: number; namespace: string | undefined } | undefined;
  for (const rule of spec?.hostOwnership ?? []) {
    for (const pattern of rule.hosts ?? []) {
      if (covers(pattern.toLowerCase(), name) && pattern.length > (best?.length ?? -1))
        best = { length: pattern.length, namespace: rule.namespace };
    }
  }
  return best?.namespace;
}

/** Every name that `host` (perhaps a wildcard) matches is matched by `pattern` too. */
function covers(pattern: string, host: string): boolean {
  if (pattern === '*' || pattern === host) return true;
  return pattern.startsWith('*.') && host.replace(/^\*/, '').endsWith(pattern.slice(1)) && host !== pattern.slice(2);
}

/** What looks wrong about gateways only beside the rest of the mesh: a Gateway that nobody serves, a certificate that is not there, a route that no server leads to. */
import { perMesh } from './analysis/model.ts';
import type { MeshLookup } from './cross-check.ts';
import { gatewaySelects, groupLabels } from './gateway-binding.ts';
import { HostSet } from './host-set.ts';
import type { MeshObject } from './object.ts';
import type { Report } from './report.ts';

interface GatewaySpec {
  readonly selector?: Readonly<Record<string, string>>;
  readonly servers?: readonly {
    readonly hosts?: readonly string[];
    readonly tls?: {
      readonly mode?: string;
      readonly credentialName?: string;
      readonly credentialNames?: readonly string[];
      readonly caCertCredentialName?: string;
    };
  }[];
}

const namespaceOf = (object: MeshObject): string => object.metadata.namespace ?? '';
const nameOf = (object: MeshObject): string => `${namespaceOf(object)}/${object.metadata.name}`;
const specOf = (gateway: MeshObject): GatewaySpec => (gateway.spec ?? {}) as GatewaySpec;

/** Of a Gateway: who serves it, and with which certificates. */
export function checkGatewayBeside(gateway: MeshObject, lookup: MeshLookup, report: Report): void {
  const groups = [...lookup.list('WorkloadGroup')];
  const selector = Object.entries(specOf(gateway).selector ?? {});
  lookup.step?.(groups.length * (1 + selector.length));
  const serving = groups.filter((group) => gatewaySelects(gateway, group));
  if (serving.length === 0) {
    lookup.step?.(groups.length * (1 + selector.length));
    const alike = groups.find((group) => {
      const labels = groupLabels(group);
      return selector.every(([key, value]) => labels[key] === value);
    });
    report.warn(
      'spec.selector',
      alike === undefined || selector.length === 0
        ? 'no WorkloadGroup that is a gateway has these labels: no host opens its ports'
        : `WorkloadGroup ${nameOf(alike)} has these labels, but its owner does not share it with namespace ${namespaceOf(gateway)} (annotation hostmesh.io/gateway)`,
    );
  }
  const secrets = new Set([...lookup.list('Secret')].map(nameOf));
  const namespaces = [...new Set(serving.map(namespaceOf))].filter((one) => lookup.listsSecrets?.(one) ?? true);
  for (const [i, { tls }] of (specOf(gateway).servers ?? []).entries()) {
    if (tls === undefined || (tls.mode ?? 'PASSTHROUGH').endsWith('PASSTHROUGH')) continue;
    const path = `spec.servers[${i}].tls`;
    const named: [string, string | undefined][] = [
      [`${path}.credentialName`, tls.credentialName],
      ...(tls.credentialNames ?? []).map((name, k): [string, string] => [`${path}.credentialNames[${k}]`, name]),
      [`${path}.caCertCredentialName`, tls.caCertCredentialName],
    ];
    lookup.step?.(named.length * (1 + namespaces.length));
    for (const [at, name] of named)
      for (const namespace of name ? namespaces : []) {
        const known =
          secrets.has(`${namespace}/${name}`) ||
          (at.endsWith('.caCertCredentialName') && secrets.has(`${namespace}/${name}-cacert`));
        if (!known)
          report.warn(
            at,
            `Secret ${namespace}/${name} is not known (yet): it lies in the gateway workload's namespace`,
          );
      }
  }
}

/** Of a VirtualService: the gateways that it names are there, and take its hosts. */
export function checkBoundGateways(virtualService: MeshObject, lookup: MeshLookup, report: Report): void {
  const spec = (virtualService.spec ?? {}) as {
    readonly hosts?: readonly string[];
    readonly gateways?: readonly string[];
  };
  if ((spec.gateways ?? []).every((written) => written === 'mesh')) return;
  const namespace = namespaceOf(virtualService);
  const known = gatewaysByName(lookup);
  const seen = new Set<string>();
  for (const [i, written] of (spec.gateways ?? []).entries()) {
    lookup.step?.();
    const name = gatewayName(written, namespace);
    if (written === 'mesh' || seen.has(name)) continue;
    seen.add(name);
    const gateway = known.get(name);
    if (gateway === undefined) {
      report.warn(`spec.gateways[${i}]`, `Gateway ${name} is not known`);
      continue;
    }
    const here = serverHosts(gateway, namespace, lookup);
    for (const [k, host] of (spec.hosts ?? []).entries()) {
      if (report.full) return;
      lookup.step?.(here.cost);
      if (!here.matches(host))
        report.warn(
          `spec.hosts[${k}]`,
          `no server of Gateway ${name} takes the host ${host} from namespace ${namespace}`,
        );
    }
  }
}

const gatewaysByName = perMesh(
  (lookup: MeshLookup) => new Map([...lookup.list('Gateway')].map((gateway) => [nameOf(gateway), gateway])),
);

/** Hosts that the servers of a Gateway take from VirtualServices of a namespace. */
export function serverHosts(gateway: MeshObject, namespace: string, lookup: Pick<MeshLookup, 'step'>): HostSet {
  const own = namespaceOf(gateway);
  const here: string[] = [];
  for (const { hosts = [] } of specOf(gateway).servers ?? []) {
    lookup.step?.(1 + hosts.length);
    for (const host of hosts) {
      const from = admittedBy(host, own);
      if (from === undefined || from === namespace) here.push(host.slice(host.indexOf('/') + 1));
    }
  }
  return new HostSet(here);
}

/** The namespace whose VirtualServices a server's `[NAMESPACE/]HOST` is for; undefined: all. `own`: the Gateway's, which `.` means. */
export function admittedBy(host: string, own: string): string | undefined {
  const slash = host.indexOf('/');
  const from = slash < 0 ? '*' : host.slice(0, slash);
  return from === '*' ? undefined : from === '.' ? own : from;
}

/** `NAMESPACE/NAME` of a gateway as a VirtualService writes it: NAME, ./NAME, NAMESPACE/NAME, or a service's full name in the old way. */
export function gatewayName(written: string, namespace: string): string {
  const [first = '', second] = written.split('/');
  if (second !== undefined) return `${first === '.' ? namespace : first}/${second}`;
  const [name = '', home] = written.split('.');
  return `${home ?? namespace}/${name}`;
}

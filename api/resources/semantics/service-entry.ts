import {
  checkExportTo,
  checkLabelName,
  checkPort,
  checkSelector,
  dnsNameFault,
  forbiddenAddress,
  ipVersion,
  parseCidr,
} from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { childPath, type Report, shown } from '../report.ts';
import type { SemanticContext } from './context.ts';
import { checkEndpointAddress, checkNoMeshPort, checkWorkloadFields, type WorkloadFields } from './workload.ts';

interface Port {
  readonly name?: string;
  readonly number?: number;
  readonly protocol?: string;
  readonly targetPort?: number;
}

export interface ServiceEntrySpec {
  readonly hosts?: readonly string[];
  readonly addresses?: readonly string[];
  readonly ports?: readonly Port[];
  readonly location?: string;
  readonly resolution?: string;
  readonly endpoints?: readonly WorkloadFields[];
  readonly workloadSelector?: { readonly labels?: Readonly<Record<string, string>> };
  readonly exportTo?: readonly string[];
  readonly subjectAltNames?: readonly string[];
}

/** Protocols that a port may declare (Istio's protocol.Parse), upper case. */
export const PORT_PROTOCOLS: readonly string[] = [
  'HTTP',
  'HTTPS',
  'HTTP2',
  'HTTP_PROXY',
  'GRPC',
  'GRPC-WEB',
  'TCP',
  'TLS',
  'UDP',
  'MONGO',
  'REDIS',
  'MYSQL',
];

/** ServiceEntry by itself, as Istio's ValidateServiceEntry judges it. */
export function checkServiceEntry(object: MeshObject, report: Report, context: SemanticContext): void {
  const spec = (object.spec ?? {}) as ServiceEntrySpec;
  const hosts = spec.hosts ?? [];
  if (hosts.length === 0) report.required('spec.hosts', 'service entry must have at least one host');
  for (const [i, host] of hosts.entries()) {
    const fault = host === '*' ? 'invalid host *: a full wildcard is not allowed' : dnsNameFault(host, true);
    if (fault !== undefined) report.add(`spec.hosts[${i}]`, fault);
    else if (hosts.indexOf(host) < i) report.add(`spec.hosts[${i}]`, `duplicate host ${host}`, 'FieldValueDuplicate');
  }
  checkAddresses(spec, report, context);
  const ports = checkPorts(spec.ports ?? [], report);
  checkExportTo(spec.exportTo, 'spec.exportTo', report, object.metadata.namespace ?? '');
  checkSelector(spec.workloadSelector?.labels, 'spec.workloadSelector.labels', report);
  if (spec.workloadSelector !== undefined && spec.endpoints !== undefined)
    report.add('spec.workloadSelector', 'only one of WorkloadSelector or Endpoints is allowed in Service Entry');
  for (const [i, endpoint] of (spec.endpoints ?? []).entries())
    checkEndpoint(endpoint, `spec.endpoints[${i}]`, ports, report);
  checkResolution(spec, report, context);
}

function checkAddresses(spec: ServiceEntrySpec, report: Report, context: SemanticContext): void {
  const resolution = spec.resolution ?? 'NONE';
  for (const [i, address] of (spec.addresses ?? []).entries()) {
    const path = `spec.addresses[${i}]`;
    const cidr = parseCidr(address);
    const why = forbiddenAddress(address, context.vipRanges);
    if (cidr === undefined) report.add(path, `${shown(address)} is not an IP address or a CIDR`);
    else if (why !== undefined)
      report.add(path, `address ${address} is not allowed: it is ${why}`, 'FieldValueForbidden');
    else if (address.includes('/') && cidr.prefix < cidr.bytes.length * 8 && !['NONE', 'STATIC'].includes(resolution))
      report.add(path, 'CIDR addresses are allowed only for NONE/STATIC resolution types');
  }
}

/** Returns the names of the ports. */
function checkPorts(ports: readonly Port[], report: Report): ReadonlySet<string> {
  const names = new Set<string>();
  const numbers = new Set<number>();
  for (const [i, port] of ports.entries()) {
    const path = `spec.ports[${i}]`;
    const { name = '', number = 0 } = port;
    if (names.has(name))
      report.add(`${path}.name`, `service entry port name ${shown(name)} already defined`, 'FieldValueDuplicate');
    if (numbers.has(number))
      report.add(`${path}.number`, `service entry port ${number} already defined`, 'FieldValueDuplicate');
    names.add(name);
    numbers.add(number);
    checkLabelName(name, `${path}.name`, report, 'port name');
    checkPort(number, `${path}.number`, report);
    checkPort(port.targetPort, `${path}.targetPort`, report);
    checkNoMeshPort(port.targetPort, `${path}.targetPort`, report);
    if (port.protocol !== undefined && port.protocol !== '' && !PORT_PROTOCOLS.includes(port.protocol.toUpperCase()))
      report.add(
        `${path}.protocol`,
        `unsupported protocol ${shown(port.protocol)}: one of ${PORT_PROTOCOLS.join(', ')}`,
        'FieldValueNotSupported',
      );
  }
  return names;
}

function checkEndpoint(endpoint: WorkloadFields, path: string, ports: ReadonlySet<string>, report: Report): void {
  checkWorkloadFields(endpoint, path, report);
  for (const name of Object.keys(endpoint.ports ?? {})) {
    if (!ports.has(name))
      report.add(childPath(`${path}.ports`, name), `endpoint port ${name} is not defined by the service entry`);
  }
}

function checkResolution(spec: ServiceEntrySpec, report: Report, context: SemanticContext): void {
  const resolution = spec.resolution ?? 'NONE';
  const endpoints = spec.endpoints ?? [];
  if (resolution === 'NONE') {
    if (endpoints.length > 0) report.add('spec.endpoints', 'no endpoints should be provided for resolution type none');
    return;
  }
  for (const [i, endpoint] of endpoints.entries()) {
    const path = `spec.endpoints[${i}].address`;
    if (!endpoint.address) {
      report.required(path, 'endpoint address should be provided');
      continue;
    }
    checkEndpointAddress(endpoint.address, path, report, context);
    if (resolution === 'STATIC' && ipVersion(endpoint.address) === 0 && !endpoint.address.startsWith('unix:'))
      report.add(path, `endpoint address ${shown(endpoint.address)} must be an IP address for resolution STATIC`);
  }
  if (resolution === 'STATIC') {
    if (endpoints.length === 0 && spec.workloadSelector === undefined)
      report.warn('spec.endpoints', 'resolution STATIC without endpoints or workloadSelector: nothing can serve it');
    return;
  }
  checkDns(spec, resolution, report);
}

function checkDns(spec: ServiceEntrySpec, resolution: string, report: Report): void {
  const endpoints = spec.endpoints ?? [];
  if (endpoints.length === 0 && spec.workloadSelector === undefined && resolution !== 'DYNAMIC_DNS') {
    for (const [i, host] of (spec.hosts ?? []).entries()) {
      if (dnsNameFault(host, false) !== undefined)
        report.add(
          `spec.hosts[${i}]`,
          `hosts must be FQDN if no endpoints are provided for resolution mode ${resolution}`,
        );
    }
  }
  if (resolution === 'DNS_ROUND_ROBIN' && endpoints.length > 1)
    report.add('spec.endpoints', `there must only be 0 or 1 endpoint for resolution mode ${resolution}`);
}

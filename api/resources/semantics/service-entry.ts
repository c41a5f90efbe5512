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

/** Protocols that a port may declare (Istio's protocol.Parse), upper case; of these UDP and HTTP_PROXY are refused here. */
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
  checkHostsByPort(spec, report);
  checkExportTo(spec.exportTo, 'spec.exportTo', report, object.metadata.namespace ?? '');
  checkSelector(spec.workloadSelector?.labels, 'spec.workloadSelector.labels', report);
  if (spec.workloadSelector !== undefined && Object.keys(spec.workloadSelector.labels ?? {}).length === 0)
    report.warn('spec.workloadSelector', 'a selector without labels selects nothing');
  for (const [i, name] of (spec.subjectAltNames ?? []).entries())
    if (name === '') report.required(`spec.subjectAltNames[${i}]`, 'a subject alternative name must not be empty');
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
    else checkCarried(port.protocol, `${path}.protocol`, report);
  }
  return names;
}

/** What no proxy here could carry as declared. */
function checkCarried(protocol: string | undefined, path: string, report: Report): void {
  const name = protocol?.toUpperCase();
  if (name === 'UDP')
    report.add(
      path,
      'not supported: proxies carry TCP only; leave UDP ports out, they are reached as they are',
      NOT_SUPPORTED,
    );
  if (name === 'HTTP_PROXY')
    report.add(
      path,
      'not supported: declare the port of a forward proxy as TCP; its requests pass as they are',
      NOT_SUPPORTED,
    );
}

const NOT_SUPPORTED = 'FieldValueNotSupported';
/** By what a proxy can tell hosts on one port apart: the Host header, the name in a TLS handshake. */
const BY_HOST = ['HTTP', 'HTTP2', 'HTTP_PROXY', 'GRPC', 'GRPC-WEB'];
const BY_SNI = ['HTTPS', 'TLS'];

function checkHostsByPort(spec: ServiceEntrySpec, report: Report): void {
  const hosts = spec.hosts ?? [];
  const protocols = (spec.ports ?? []).map((port) => (port.protocol ?? '').toUpperCase());
  const opaque = protocols.some((protocol) => !BY_HOST.includes(protocol) && !BY_SNI.includes(protocol));
  if (hosts.length > 1 && opaque && (spec.resolution ?? 'NONE') !== 'NONE')
    report.add('spec.hosts', 'multiple hosts provided with non-HTTP, non-TLS ports');
  for (const [i, host] of hosts.entries())
    if (/^\*[^.]/.test(host) && protocols.some((protocol) => BY_SNI.includes(protocol)))
      report.add(
        `spec.hosts[${i}]`,
        `not supported: ${shown(host)} on a TLS port: of names in TLS handshakes only whole labels can be left open, as in *.example.com`,
        NOT_SUPPORTED,
      );
  if (spec.resolution !== 'DYNAMIC_DNS') return;
  for (const [i, port] of (spec.ports ?? []).entries())
    if (!port.targetPort) checkNoMeshPort(port.number, `spec.ports[${i}].number`, report);
  for (const [i, port] of (spec.ports ?? []).entries())
    if (
      port.targetPort &&
      port.targetPort !== port.number &&
      port.number !== 80 &&
      BY_HOST.includes(protocols[i] ?? '')
    )
      report.add(
        `spec.ports[${i}].targetPort`,
        'not supported: with resolution DYNAMIC_DNS a Host header says the port, which only requests at port 80 leave out',
        NOT_SUPPORTED,
      );
  for (const [i, protocol] of protocols.entries())
    if (!BY_HOST.includes(protocol) && !BY_SNI.includes(protocol))
      report.add(
        `spec.ports[${i}].protocol`,
        'not supported: with resolution DYNAMIC_DNS each request names its server, by its Host header (HTTP, HTTP2, GRPC) or its TLS handshake (TLS, HTTPS)',
        NOT_SUPPORTED,
      );
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
  if (resolution === 'NONE' || resolution === 'DYNAMIC_DNS') {
    if (endpoints.length > 0)
      report.add('spec.endpoints', `no endpoints should be provided for resolution type ${resolution.toLowerCase()}`);
    if (Object.keys(spec.workloadSelector?.labels ?? {}).length > 0)
      report.add(
        'spec.workloadSelector',
        `not supported: with resolution ${resolution} no endpoint is looked at; STATIC sends requests to the workloads selected`,
        NOT_SUPPORTED,
      );
    return;
  }
  for (const [i, endpoint] of endpoints.entries()) {
    const path = `spec.endpoints[${i}].address`;
    if (!endpoint.address) {
      // Istio: one that only its network's gateway reaches.
      if (!endpoint.network || resolution !== 'STATIC') report.required(path, 'endpoint address should be provided');
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
  if (endpoints.length === 0 && spec.workloadSelector === undefined) {
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

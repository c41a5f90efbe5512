import { checkLabelName, checkPort, checkSelector, ipVersion } from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { type Report, shown } from '../report.ts';
import type { SemanticContext } from './context.ts';
import { PORT_PROTOCOLS } from './service-entry.ts';
import { checkEndpointAddress, checkNoMeshPort } from './workload.ts';

interface ServicePort {
  readonly name?: string;
  readonly port?: number;
  readonly targetPort?: number | string;
  readonly protocol?: string;
  readonly appProtocol?: string;
}

interface ServiceSpec {
  readonly type?: string;
  readonly selector?: Readonly<Record<string, string>>;
  readonly ports?: readonly ServicePort[];
  readonly clusterIP?: string;
  readonly clusterIPs?: readonly string[];
  readonly externalName?: string;
  readonly ipFamilies?: readonly string[];
  readonly ipFamilyPolicy?: string;
  readonly sessionAffinity?: string;
}

const NOT_SUPPORTED = 'FieldValueNotSupported';

/** Service (core v1): names WorkloadGroups and WorkloadEntries of its namespace by labels. Kubernetes' own rules for ports. */
export function checkService(object: MeshObject, report: Report, context: SemanticContext): void {
  const spec = (object.spec ?? {}) as ServiceSpec;
  checkServiceType(spec, report, context);
  checkOwnAddresses(spec, report);
  checkSelector(spec.selector, 'spec.selector', report);
  checkServicePorts(spec.ports ?? [], report);
}

function checkServiceType(spec: ServiceSpec, report: Report, context: SemanticContext): void {
  const { type = 'ClusterIP', externalName, selector, ports = [] } = spec;
  const selects = Object.keys(selector ?? {}).length > 0;
  if (type === 'NodePort' || type === 'LoadBalancer')
    report.add(
      'spec.type',
      'not supported: there are no nodes whose ports could be opened and no cloud to ask for a load balancer; let outsiders in by a Gateway',
      NOT_SUPPORTED,
    );
  if (type !== 'ExternalName') {
    if (externalName) report.add('spec.externalName', 'is for services of type ExternalName only');
    if (ports.length === 0) report.required('spec.ports', 'a service needs at least one port');
    if (!selects) report.warn('spec.selector', 'a service without a selector has no endpoints');
    return;
  }
  if (!externalName) report.required('spec.externalName', 'a service of type ExternalName needs one');
  else if (ipVersion(externalName) !== 0)
    report.add('spec.externalName', 'must be a DNS name; addresses belong into a ServiceEntry');
  else checkEndpointAddress(externalName, 'spec.externalName', report, context);
  if (ports.length === 0)
    report.add(
      'spec.ports',
      'not supported: an ExternalName needs the ports that its clients use: they are taken to the other name by a proxy, not by DNS',
      NOT_SUPPORTED,
    );
  if (selects) report.add('spec.selector', 'a service of type ExternalName selects nothing');
  if (spec.clusterIP) report.add('spec.clusterIP', 'may not be set for services of type ExternalName');
}

function checkOwnAddresses(spec: ServiceSpec, report: Report): void {
  for (const [path, address] of [
    ['spec.clusterIP', spec.clusterIP],
    ...(spec.clusterIPs ?? []).map((one, i) => [`spec.clusterIPs[${i}]`, one] as const),
  ] as const)
    if (address && address !== 'None')
      report.add(
        path,
        'not supported: the controller gives each service its address; leave it out, or None for a headless service',
        NOT_SUPPORTED,
      );
  if (spec.clusterIPs?.includes('None') === true && spec.clusterIP !== 'None')
    report.add('spec.clusterIPs[0]', 'must be the same as clusterIP');
  if (spec.sessionAffinity === 'ClientIP')
    report.add(
      'spec.sessionAffinity',
      'not supported: use a DestinationRule with loadBalancer.consistentHash.useSourceIp; none here forgets a client after a time',
      NOT_SUPPORTED,
    );
  const families = (spec.ipFamilies ?? []).filter((family) => family !== '');
  if (families.length > 2 || new Set(families).size < families.length)
    report.add('spec.ipFamilies', 'may name each of IPv4 and IPv6 once', 'FieldValueDuplicate');
  if (spec.ipFamilyPolicy === 'SingleStack' && families.length > 1)
    report.add('spec.ipFamilies', 'may name one family only when ipFamilyPolicy is SingleStack');
}

function checkServicePorts(ports: readonly ServicePort[], report: Report): void {
  const names = new Set<string>();
  const numbers = new Set<string>();
  for (const [i, port] of ports.entries()) {
    const path = `spec.ports[${i}]`;
    if (ports.length > 1 && !port.name)
      report.required(`${path}.name`, 'a name is required when there are several ports');
    checkLabelName(port.name, `${path}.name`, report, 'port name');
    if (port.name && names.has(port.name))
      report.add(`${path}.name`, `duplicate port name ${port.name}`, 'FieldValueDuplicate');
    const key = `${port.protocol ?? 'TCP'}/${port.port}`;
    if (numbers.has(key)) report.add(`${path}.port`, `duplicate port ${key}`, 'FieldValueDuplicate');
    names.add(port.name ?? '');
    numbers.add(key);
    if (port.protocol === 'UDP' || port.protocol === 'SCTP')
      report.add(`${path}.protocol`, 'not supported: proxies carry TCP only; leave the port out', NOT_SUPPORTED);
    if (port.port === undefined) report.required(`${path}.port`, 'a port number is required');
    checkPort(port.port, `${path}.port`, report);
    checkTargetPort(port.targetPort, `${path}.targetPort`, report);
    warnServerFirst(port, path, report);
  }
}

/** FTP, SSH, SMTP, POP3, IMAP, submission, MySQL: there the server speaks first. */
const SERVER_FIRST: readonly number[] = [21, 22, 25, 110, 143, 587, 3306];

/** Where the protocol is not declared, proxies wait for the client's first bytes before they go on (DESIGN 3.13). */
function warnServerFirst(port: ServicePort, path: string, report: Report): void {
  const declared = port.appProtocol ?? /^[a-z0-9]+/.exec(port.name ?? '')?.[0] ?? '';
  if (PORT_PROTOCOLS.includes(declared.toUpperCase())) return;
  const number = SERVER_FIRST.find((one) => one === port.port || one === port.targetPort);
  if (number !== undefined)
    report.warn(
      path,
      `on port ${number} servers usually speak first: declare it by appProtocol: tcp, or each connection waits for detection`,
    );
}

function checkTargetPort(target: number | string | undefined, path: string, report: Report): void {
  if (target === undefined) return;
  if (typeof target === 'string') {
    // Kubernetes' IANA service name: it names a port of the workload's `ports` map.
    if (!/^(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$/.test(target) && !/^[a-z][-a-z0-9]{0,62}$/.test(target))
      report.add(path, `${shown(target)} is not a port number or the name of a workload's port`);
    return;
  }
  checkPort(target, path, report);
  checkNoMeshPort(target, path, report);
}

import { checkLabelName, checkPort, checkSelector } from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { type Report, shown } from '../report.ts';
import { PORT_PROTOCOLS } from './service-entry.ts';
import { checkNoMeshPort } from './workload.ts';

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
}

/** Service (core v1): names WorkloadGroups and WorkloadEntries of its namespace by labels. Kubernetes' own rules for ports. */
export function checkService(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as ServiceSpec;
  const ports = spec.ports ?? [];
  if (ports.length === 0) report.required('spec.ports', 'a service needs at least one port');
  if (spec.selector === undefined || Object.keys(spec.selector).length === 0)
    report.warn('spec.selector', 'a service without a selector has no endpoints');
  checkSelector(spec.selector, 'spec.selector', report);
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

/** Namespaces need no declaration here; declaring one gives it labels. */
export function checkNamespace(object: MeshObject, report: Report): void {
  if (Object.keys((object.spec ?? {}) as object).length > 0)
    report.add('spec', 'a namespace has no spec here', 'FieldValueNotSupported');
}

/** Secrets serve gateways, which are to come: until they are served over mTLS and encrypted at rest none is taken. */
export function checkSecret(object: MeshObject, report: Report): void {
  const type = object.type ?? 'Opaque';
  if (type !== 'kubernetes.io/tls')
    report.add('type', `secret type ${shown(type)} is not supported: kubernetes.io/tls is`, 'FieldValueNotSupported');
}

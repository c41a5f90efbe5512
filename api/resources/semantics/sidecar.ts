import { isWithin } from '../../cidr.ts';
import { checkLabelName, checkPort, checkSelector, ipVersion, isMeshPort } from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { type Report, shown } from '../report.ts';
import { checkConnectionPool } from './destination-rule.ts';
import { checkNamespacedHost, checkServerTls } from './gateway.ts';
import { checkDestination, type Destination } from './route-parts.ts';
import { PORT_PROTOCOLS } from './service-entry.ts';

interface Port {
  readonly number?: number;
  readonly name?: string;
  readonly protocol?: string;
  readonly targetPort?: number;
}

type Pool = Parameters<typeof checkConnectionPool>[0];

interface Ingress {
  readonly port?: Port;
  readonly bind?: string;
  readonly captureMode?: string;
  readonly defaultEndpoint?: string;
  readonly connectionPool?: Pool;
  readonly tls?: Tls;
}

type Tls = Parameters<typeof checkServerTls>[0];

interface Egress {
  readonly hosts?: readonly string[];
  readonly port?: Port;
  readonly bind?: string;
  readonly captureMode?: string;
}

export interface SidecarSpec {
  readonly workloadSelector?: { readonly labels?: Readonly<Record<string, string>> };
  readonly egress?: readonly Egress[];
  readonly ingress?: readonly Ingress[];
  readonly inboundConnectionPool?: Pool;
  readonly outboundTrafficPolicy?: { readonly mode?: string; readonly egressProxy?: Destination };
}

const LOOPBACK = ['127.0.0.0/8', '::1/128'];

/** Sidecar by itself, as Istio's ValidateSidecar judges it, and what makes no sense on a host. */
export function checkSidecar(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as SidecarSpec;
  checkSelector(spec.workloadSelector?.labels, 'spec.workloadSelector.labels', report);
  if (spec.workloadSelector !== undefined && Object.keys(spec.workloadSelector.labels ?? {}).length === 0)
    report.warn('spec.workloadSelector', 'without labels it holds for all workloads of the namespace');
  const { egress = [], ingress = [], outboundTrafficPolicy, inboundConnectionPool } = spec;
  if (
    egress.length === 0 &&
    ingress.length === 0 &&
    outboundTrafficPolicy === undefined &&
    inboundConnectionPool === undefined
  )
    report.required('spec', 'a Sidecar needs egress, ingress, outboundTrafficPolicy or inboundConnectionPool');
  checkIngressListeners(ingress, object.metadata.namespace, report);
  checkConnectionPool(inboundConnectionPool, 'spec.inboundConnectionPool', report);
  checkEgressListeners(egress, object.metadata.namespace ?? '', report);
  checkOutboundPolicy(outboundTrafficPolicy, report);
}

function checkIngressListeners(listeners: readonly Ingress[], namespace: string | undefined, report: Report): void {
  const ports = new Set<number>();
  for (const [i, listener] of listeners.entries()) {
    const path = `spec.ingress[${i}]`;
    const { port = {}, bind, captureMode, defaultEndpoint, connectionPool } = listener;
    checkListenerPort({ number: 0, ...port }, `${path}.port`, ports, report);
    checkBind(bind, `${path}.bind`, report);
    if (bind && captureMode !== 'NONE')
      report.add(`${path}.bind`, 'not supported: connections are taken by their port; only captureMode NONE binds');
    const target = checkDefaultEndpoint(defaultEndpoint, `${path}.defaultEndpoint`, report);
    if (captureMode === 'NONE' && (target === undefined || target === port.number))
      report.add(
        `${path}.defaultEndpoint`,
        'with captureMode NONE the application must be at another port than the proxy: it would speak to itself',
      );
    checkIngressTls(listener.tls, `${path}.tls`, namespace, report);
    checkConnectionPool(connectionPool, `${path}.connectionPool`, report);
    if (connectionPool?.http !== undefined && !isHttp(port.protocol))
      report.warn(`${path}.connectionPool.http`, 'the protocol of the port is not HTTP: only TCP settings will apply');
  }
}

/** Istio's limits on it; and it counts only where PeerAuthentication says DISABLE for the port. */
function checkIngressTls(tls: Tls | undefined, path: string, namespace: string | undefined, report: Report): void {
  if (tls === undefined) return;
  for (const field of [
    'subjectAltNames',
    'httpsRedirect',
    'credentialName',
    'credentialNames',
    'caCertCredentialName',
  ] as const) {
    const value = tls[field];
    if (value === undefined || value === false || value === '' || (Array.isArray(value) && value.length === 0))
      continue;
    report.add(`${path}.${field}`, `${field} is not supported in ingress tls`);
  }
  if (tls.mode === 'ISTIO_MUTUAL' || tls.mode === 'AUTO_PASSTHROUGH')
    report.add(`${path}.mode`, `cannot set mode to ${tls.mode} in sidecar ingress tls`);
  else checkServerTls(tls, path, report, namespace);
}

function isHttp(protocol = ''): boolean {
  return ['HTTP', 'HTTP2', 'GRPC', 'GRPC-WEB', 'HTTP_PROXY'].includes(protocol.toUpperCase());
}

function checkListenerPort(port: Port, path: string, taken: Set<number>, report: Report): void {
  const { number = 0, name, protocol, targetPort } = port;
  checkPort(number, `${path}.number`, report);
  if (isMeshPort(number)) report.add(`${path}.number`, `port ${number} is the mesh's own`, 'FieldValueForbidden');
  if (name) checkLabelName(name, `${path}.name`, report, 'port name');
  if (protocol && !PORT_PROTOCOLS.includes(protocol.toUpperCase()))
    report.add(`${path}.protocol`, `unsupported protocol ${shown(protocol)}`, 'FieldValueNotSupported');
  if (protocol?.toUpperCase() === 'UDP')
    report.add(`${path}.protocol`, 'not supported: UDP does not go through the proxy', 'FieldValueNotSupported');
  if ((targetPort ?? 0) > 0) report.add(`${path}.targetPort`, 'targetPort has no impact on Sidecars');
  if (taken.has(number)) report.add(`${path}.number`, `duplicate port ${number}`, 'FieldValueDuplicate');
  taken.add(number);
}

function checkBind(bind: string | undefined, path: string, report: Report): void {
  if (!bind) return;
  if (bind.startsWith('unix:')) report.add(path, 'unix sockets are not allowed', 'FieldValueForbidden');
  else if (ipVersion(bind) === 0) report.add(path, `${shown(bind)} is not an IP address`);
}

/** Istio's forms: 127.0.0.1:PORT, 0.0.0.0:PORT or :PORT (the instance's address), and their IPv6 kin; its unix:// is refused (DESIGN 3.2). Returns the port. */
function checkDefaultEndpoint(endpoint: string | undefined, path: string, report: Report): number | undefined {
  if (!endpoint) return undefined;
  const match = /^(?:127\.0\.0\.1|0\.0\.0\.0|\[::1?\]|):(\d{1,5})$/.exec(endpoint);
  if (endpoint.startsWith('unix:')) report.add(path, 'unix sockets are not allowed', 'FieldValueForbidden');
  else if (match === null)
    report.add(path, `${shown(endpoint)} must be 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT or [::]:PORT`);
  else {
    checkPort(Number(match[1]), path, report);
    if (isMeshPort(Number(match[1]))) report.add(path, `port ${match[1]} is the mesh's own`, 'FieldValueForbidden');
  }
  return match === null ? undefined : Number(match[1]);
}

function checkEgressListeners(listeners: readonly Egress[], namespace: string, report: Report): void {
  const ports = new Set<number>();
  for (const [i, listener] of listeners.entries()) {
    const path = `spec.egress[${i}]`;
    if (listener.port === undefined) checkCatchAll(listener, path, i === listeners.length - 1, report);
    else checkPortListener(listener, listener.port, path, ports, report);
    checkImports(listener.hosts ?? [], namespace, `${path}.hosts`, report);
  }
}

function checkCatchAll({ bind, captureMode }: Egress, path: string, last: boolean, report: Report): void {
  if (!last) report.add(path, 'the egress listener without a port must be the last one, and the only one');
  if (bind) report.add(`${path}.bind`, 'not supported: a listener without a port has no address of its own');
  if (captureMode === 'NONE')
    report.add(
      `${path}.captureMode`,
      'not supported: without a port there is nothing to bind; name a port, or leave captureMode out',
      'FieldValueNotSupported',
    );
}

function checkPortListener(listener: Egress, port: Port, path: string, ports: Set<number>, report: Report): void {
  const { bind, captureMode } = listener;
  if ((port.number ?? 0) === 0 && bind?.startsWith('unix:'))
    report.add(`${path}.bind`, 'unix sockets are not allowed', 'FieldValueForbidden');
  else {
    checkListenerPort({ number: 0, ...port }, `${path}.port`, ports, report);
    checkBind(bind, `${path}.bind`, report);
  }
  if (port.protocol?.toUpperCase() === 'HTTP_PROXY')
    report.add(
      `${path}.port.protocol`,
      'not supported: workloads are captured, they need no proxy of their own',
      'FieldValueNotSupported',
    );
  if (!bind || ipVersion(bind) === 0) return;
  const loopback = isWithin(bind, LOOPBACK);
  if (captureMode === 'NONE' && !loopback)
    report.add(
      `${path}.bind`,
      'must be a loopback address: whoever reaches it is served as the workload',
      'FieldValueForbidden',
    );
  if (captureMode !== 'NONE' && loopback)
    report.add(`${path}.bind`, 'connections to loopback are not captured: set captureMode NONE');
}

function checkImports(hosts: readonly string[], namespace: string, path: string, report: Report): void {
  if (hosts.length === 0) report.required(path, 'egress listener must contain at least one host');
  const seen = new Map<string, Set<string>>();
  for (const [k, host] of hosts.entries()) {
    const [where = '', name, ...more] = host.split('/');
    if (name === undefined || name === '' || more.length > 0) {
      report.add(`${path}[${k}]`, `${shown(host)} must be NAMESPACE/HOST`);
      continue;
    }
    checkNamespacedHost(host, `${path}[${k}]`, report);
    const here = where === '.' ? namespace : where;
    const names = seen.get(here) ?? new Set<string>();
    seen.set(here, names);
    if (names.has(name) || names.has('*') || (name === '*' && names.size > 0))
      report.warn(`${path}[${k}]`, `duplicated egress host: ${host}`);
    names.add(name);
  }
  if (seen.get('*')?.has('*') && seen.size > 1)
    report.warn(path, '*/* selects everything: the other hosts add nothing');
}

function checkOutboundPolicy(policy: SidecarSpec['outboundTrafficPolicy'], report: Report): void {
  if (policy === undefined) return;
  const path = 'spec.outboundTrafficPolicy';
  const { mode, egressProxy } = policy;
  if (mode === undefined) report.warn(path, 'without mode it is REGISTRY_ONLY, as in Istio');
  if (egressProxy === undefined) return;
  if (mode !== 'ALLOW_ANY') {
    report.add(`${path}.egressProxy`, 'egressProxy must be set only with mode ALLOW_ANY');
    return;
  }
  checkDestination(egressProxy, `${path}.egressProxy`, report);
  if (!egressProxy.host?.includes('.')) report.add(`${path}.egressProxy.host`, 'must be a full name');
  if (egressProxy.port?.number === undefined) report.required(`${path}.egressProxy.port`, 'is required');
}

import { SUBDOMAIN } from '../../identity/spiffe-id.ts';
import { hasHidden, showHidden } from '../../text.ts';
import {
  checkInteger,
  checkLabelName,
  checkLabels,
  checkPort,
  dnsNameFault,
  forbiddenAddress,
  HTTP_TOKEN,
  ipVersion,
  isMeshPort,
} from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { childPath, type Report, shown } from '../report.ts';
import type { SemanticContext } from './context.ts';

/** Istio's WorkloadEntry, also as an endpoint of a ServiceEntry and as a WorkloadGroup's template. */
export interface WorkloadFields {
  readonly address?: string;
  readonly ports?: Readonly<Record<string, number>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly network?: string;
  readonly locality?: string;
  readonly weight?: number;
  readonly serviceAccount?: string;
}

/** WorkloadEntry by itself, as Istio's ValidateWorkloadEntry judges it. */
export function checkWorkloadEntry(object: MeshObject, report: Report, context: SemanticContext): void {
  const spec = (object.spec ?? {}) as WorkloadFields;
  // Istio: without an address it is reached by its network's gateway.
  if (!spec.address && !spec.network) report.required('spec.address', 'address must be set');
  else if (spec.address) checkEndpointAddress(spec.address, 'spec.address', report, context);
  checkWorkloadFields(spec, 'spec', report);
}

/** An endpoint's address: an IP address, or a DNS name to resolve. Refuses what would reach the hosts' own services (DESIGN 3.2). */
export function checkEndpointAddress(address: string, path: string, report: Report, context: SemanticContext): void {
  if (address.startsWith('unix:')) {
    report.add(
      path,
      'unix sockets are not allowed as endpoints: they would open sockets on hosts',
      'FieldValueForbidden',
    );
    return;
  }
  if (ipVersion(address) === 0) {
    const fault = dnsNameFault(address, false);
    if (fault !== undefined) report.add(path, `${shown(address)} is neither an IP address nor a host name`);
    else if (/^(.+\.)?localhost\.?$/i.test(address))
      report.add(path, 'localhost is not allowed as an endpoint', 'FieldValueForbidden');
    return;
  }
  const why = forbiddenAddress(address, context.vipRanges);
  if (why !== undefined) report.add(path, `address ${address} is not allowed: it is ${why}`, 'FieldValueForbidden');
}

/** Everything of a workload but its address. */
export function checkWorkloadFields(workload: WorkloadFields, path: string, report: Report): void {
  checkLabels(workload.labels, `${path}.labels`, report);
  checkInteger(workload.weight, `${path}.weight`, report, 0, 2 ** 32 - 1);
  for (const [name, port] of Object.entries(workload.ports ?? {})) {
    const at = childPath(`${path}.ports`, name);
    checkLabelName(name, at, report, 'port name');
    checkPort(port, at, report);
    checkNoMeshPort(port, at, report);
  }
  if (
    workload.serviceAccount !== undefined &&
    workload.serviceAccount !== '' &&
    !SUBDOMAIN.test(workload.serviceAccount)
  )
    report.add(`${path}.serviceAccount`, `${shown(workload.serviceAccount)} is not a service account's name`);
  checkLocalityName(workload.locality, `${path}.locality`, report);
  if (workload.network !== undefined && workload.network !== '' && !SUBDOMAIN.test(workload.network))
    report.add(
      `${path}.network`,
      `network ${shown(workload.network)} is not a name of lower-case letters, digits, hyphens and dots`,
    );
}

/** `REGION[/ZONE[/SUBZONE]]` without wildcards or empty parts. */
function checkLocalityName(locality: string | undefined, path: string, report: Report): void {
  if (locality === undefined || locality === '') return;
  const parts = locality.split('/');
  if (locality.includes('*')) report.add(path, `locality ${shown(locality)} must not contain wildcards`);
  else if (parts.length > 3 || parts.includes(''))
    report.add(path, `locality ${shown(locality)} must be REGION[/ZONE[/SUBZONE]]`);
}

/** Traffic to the mesh's own ports on a host would reach its machinery. */
export function checkNoMeshPort(port: number | undefined, path: string, report: Report): void {
  if (port !== undefined && isMeshPort(port))
    report.add(path, `port ${port} belongs to the mesh itself`, 'FieldValueForbidden');
}

interface Probe {
  readonly httpGet?: {
    readonly port?: number;
    readonly host?: string;
    readonly path?: string;
    readonly scheme?: string;
    readonly httpHeaders?: readonly { readonly name?: string; readonly value?: string }[];
  };
  readonly tcpSocket?: { readonly port?: number; readonly host?: string };
  readonly grpc?: { readonly port?: number; readonly service?: string };
  readonly exec?: { readonly command?: readonly string[] };
  readonly [timing: string]: unknown;
}

/** WorkloadGroup by itself: its template says what each host that serves it looks like; the hosts bring the addresses. */
export function checkWorkloadGroup(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as {
    readonly metadata?: { readonly labels?: Record<string, string>; readonly annotations?: Record<string, string> };
    readonly template?: WorkloadFields;
    readonly probe?: Probe;
  };
  if (spec.template === undefined) report.required('spec.template', 'template is required');
  else {
    if (spec.template.address)
      report.add('spec.template.address', 'a template has no address: each host brings its own', 'FieldValueForbidden');
    checkWorkloadFields(spec.template, 'spec.template', report);
  }
  checkLabels(spec.metadata?.labels, 'spec.metadata.labels', report);
  checkProbe(spec.probe, 'spec.probe', report);
}

function checkProbe(probe: Probe | undefined, path: string, report: Report): void {
  if (probe === undefined) return;
  const handlers = (['httpGet', 'tcpSocket', 'grpc', 'exec'] as const).filter((name) => probe[name] !== undefined);
  if (handlers.length === 0) report.required(path, 'a probe needs one of httpGet, tcpSocket, grpc, exec');
  for (const name of ['initialDelaySeconds', 'timeoutSeconds', 'periodSeconds', 'successThreshold', 'failureThreshold'])
    checkInteger(probe[name], `${path}.${name}`, report, 0);
  for (const name of ['httpGet', 'tcpSocket', 'grpc'] as const) {
    const call: { readonly port?: number; readonly host?: string } | undefined = probe[name];
    if (call === undefined) continue;
    checkPort(call.port ?? 0, `${path}.${name}.port`, report);
    checkNoMeshPort(call.port, `${path}.${name}.port`, report);
    checkProbeHost(call.host, `${path}.${name}.host`, report);
  }
  checkHttpGet(probe.httpGet, `${path}.httpGet`, report);
  if ((probe.grpc?.service?.length ?? 0) > MAX_GRPC_SERVICE)
    report.add(`${path}.grpc.service`, `must be at most ${MAX_GRPC_SERVICE} characters`, 'FieldValueTooLong');
  if (probe.exec !== undefined && (probe.exec.command ?? []).length === 0)
    report.required(`${path}.exec.command`, 'command is required');
  // It is shown to hosts' administrators, who list it word for word: what they read must be what they list.
  for (const [i, word] of (probe.exec?.command ?? []).entries())
    if (typeof word === 'string' && hasHidden(word))
      report.add(
        `${path}.exec.command[${i}]`,
        `no line breaks, other control or format characters or broken Unicode: ${showHidden(JSON.stringify(word)).slice(0, 80)}`,
      );
  if (probe.exec !== undefined && typeof probe.timeoutSeconds === 'number' && probe.timeoutSeconds > MAX_EXEC_SECONDS)
    report.add(
      `${path}.timeoutSeconds`,
      `not supported: hosts end a command after ${MAX_EXEC_SECONDS} s`,
      'FieldValueNotSupported',
    );
}

const MAX_GRPC_SERVICE = 127;

/** Longest that the command of an exec probe may run on a host: after it systemd ends it, whoever asked for it. */
export const MAX_EXEC_SECONDS = 300;

/** Hosts of a group have addresses of their own: of those that one object can name only loopback is the same on each. */
function checkProbeHost(host: string | undefined, path: string, report: Report): void {
  if (host === undefined || ['', 'localhost', '127.0.0.1', '::1'].includes(host)) return;
  report.add(
    path,
    `not supported: a probe goes to the workload on its own host, by that host's address (no host) or by loopback (localhost); set what the server is to be called by a Host header in httpHeaders`,
    'FieldValueNotSupported',
  );
}

function checkHttpGet(httpGet: Probe['httpGet'], path: string, report: Report): void {
  const { scheme, path: uri, httpHeaders } = httpGet ?? {};
  if (scheme !== undefined && scheme !== '' && !['HTTP', 'HTTPS'].includes(scheme.toUpperCase()))
    report.add(`${path}.scheme`, 'scheme must be HTTP or HTTPS');
  if (uri !== undefined && !/^[\x21-\x7e]*$/.test(uri))
    report.add(`${path}.path`, `${shown(uri)} is no path: encode spaces and what is not ASCII`);
  for (const [i, header] of (httpHeaders ?? []).entries()) {
    const at = `${path}.httpHeaders[${i}]`;
    if (!header.name) report.required(`${at}.name`, 'a header needs a name');
    else if (!HTTP_TOKEN.test(header.name)) report.add(`${at}.name`, `${shown(header.name)} is not a header name`);
    if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(header.value ?? ''))
      report.add(`${at}.value`, 'must not have control characters');
  }
}

import { checkLabelName, checkPort, checkSelector, dnsNameFault } from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { type Report, shown } from '../report.ts';
import { PORT_PROTOCOLS } from './service-entry.ts';
import { checkTlsFile } from './tls-settings.ts';

interface ServerTls {
  readonly mode?: string;
  readonly httpsRedirect?: boolean;
  readonly serverCertificate?: string;
  readonly privateKey?: string;
  readonly caCertificates?: string;
  readonly credentialName?: string;
  readonly minProtocolVersion?: string;
  readonly maxProtocolVersion?: string;
}

interface Server {
  readonly port?: { readonly number?: number; readonly name?: string; readonly protocol?: string };
  readonly hosts?: readonly string[];
  readonly bind?: string;
  readonly name?: string;
  readonly tls?: ServerTls;
}

/** Gateway by itself, as Istio's ValidateGateway judges it. */
export function checkGateway(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as {
    readonly selector?: Record<string, string>;
    readonly servers?: readonly Server[];
  };
  checkSelector(spec.selector, 'spec.selector', report);
  if ((spec.servers ?? []).length === 0) report.required('spec.servers', 'gateway must have at least one server');
  const names = new Set<string>();
  for (const [i, server] of (spec.servers ?? []).entries()) {
    const path = `spec.servers[${i}]`;
    if (server.name && names.has(server.name))
      report.add(`${path}.name`, `server names must be unique in a gateway: ${server.name}`, 'FieldValueDuplicate');
    names.add(server.name ?? '');
    checkServer(server, path, report);
  }
}

function checkServer(server: Server, path: string, report: Report): void {
  const { number, name, protocol } = server.port ?? {};
  checkPort(number ?? 0, `${path}.port.number`, report);
  checkLabelName(name ?? '', `${path}.port.name`, report, 'port name');
  if (protocol !== undefined && !PORT_PROTOCOLS.includes(protocol.toUpperCase()))
    report.add(`${path}.port.protocol`, `unsupported protocol ${shown(protocol)}`, 'FieldValueNotSupported');
  if ((server.hosts ?? []).length === 0)
    report.required(`${path}.hosts`, 'server config must contain at least one host');
  for (const [i, host] of (server.hosts ?? []).entries()) checkNamespacedHost(host, `${path}.hosts[${i}]`, report);
  if (server.bind?.startsWith('unix:'))
    report.add(`${path}.bind`, 'unix sockets are not allowed', 'FieldValueForbidden');
  const upper = (protocol ?? '').toUpperCase();
  if (server.tls === undefined && ['HTTPS', 'TLS'].includes(upper))
    report.required(`${path}.tls`, 'server must have TLS settings for HTTPS/TLS protocols');
  if (server.tls === undefined) return;
  if (upper === 'HTTP' && server.tls.mode !== undefined)
    report.add(`${path}.tls`, 'server cannot have TLS settings for plain text HTTP ports');
  checkServerTls(server.tls, `${path}.tls`, report);
}

/** `[NAMESPACE/]HOST`, NAMESPACE also `.` or `*`. */
export function checkNamespacedHost(text: string, path: string, report: Report): void {
  const parts = text.split('/');
  const host = parts.at(-1) as string;
  if (parts.length > 2) report.add(path, `${shown(text)} must be NAMESPACE/HOST or HOST`);
  else if (parts.length === 2 && !['.', '*', '~'].includes(parts[0] as string))
    checkLabelName(parts[0], path, report, 'namespace');
  if (host === '*') return;
  const fault = dnsNameFault(host, true);
  if (fault !== undefined) report.add(path, fault);
}

function checkServerTls(tls: ServerTls, path: string, report: Report): void {
  for (const field of ['serverCertificate', 'privateKey', 'caCertificates'] as const)
    checkTlsFile(tls[field], `${path}.${field}`, report);
  const mutual = tls.mode === 'MUTUAL' || tls.mode === 'OPTIONAL_MUTUAL';
  if ((tls.mode === 'SIMPLE' || mutual) && !tls.credentialName) {
    if (!tls.serverCertificate)
      report.required(`${path}.serverCertificate`, `${tls.mode} TLS requires a server certificate`);
    if (!tls.privateKey) report.required(`${path}.privateKey`, `${tls.mode} TLS requires a private key`);
    if (mutual && !tls.caCertificates)
      report.required(`${path}.caCertificates`, `${tls.mode} TLS requires a client CA bundle`);
  }
  if (
    tls.mode === 'ISTIO_MUTUAL' &&
    (tls.credentialName || tls.serverCertificate || tls.privateKey || tls.caCertificates)
  )
    report.add(path, 'ISTIO_MUTUAL TLS cannot have certificates or credentialName of its own');
  const version = (text: string | undefined): number =>
    ['TLSV1_0', 'TLSV1_1', 'TLSV1_2', 'TLSV1_3'].indexOf(text ?? '');
  const [min, max] = [version(tls.minProtocolVersion), version(tls.maxProtocolVersion)];
  if (min >= 0 && max >= 0 && min > max) report.add(path, 'minProtocolVersion is above maxProtocolVersion');
}

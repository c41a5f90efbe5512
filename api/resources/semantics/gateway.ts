import { SUBDOMAIN } from '../../identity/spiffe-id.ts';
import { isCipherSuite } from '../cipher-suites.ts';
import { checkLabelName, checkPort, checkSelector, dnsNameFault, ipVersion, isMeshPort } from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { type Report, shown } from '../report.ts';
import { checkTlsFile } from './tls-settings.ts';

interface Certificate {
  readonly serverCertificate?: string;
  readonly privateKey?: string;
}

interface ServerTls extends Certificate {
  readonly mode?: string;
  readonly httpsRedirect?: boolean;
  readonly caCertificates?: string;
  readonly caCrl?: string;
  readonly tlsCertificates?: readonly Certificate[];
  readonly credentialName?: string;
  readonly credentialNames?: readonly string[];
  readonly caCertCredentialName?: string;
  readonly subjectAltNames?: readonly string[];
  readonly verifyCertificateSpki?: readonly string[];
  readonly verifyCertificateHash?: readonly string[];
  readonly minProtocolVersion?: string;
  readonly maxProtocolVersion?: string;
  readonly cipherSuites?: readonly string[];
}

interface Server {
  readonly port?: { readonly number?: number; readonly name?: string; readonly protocol?: string };
  readonly hosts?: readonly string[];
  readonly bind?: string;
  readonly name?: string;
  readonly tls?: ServerTls;
}

const HTTP: readonly string[] = ['HTTP', 'HTTP2', 'GRPC', 'GRPC-WEB'];
const PROTOCOLS: readonly string[] = [...HTTP, 'HTTPS', 'TLS', 'TCP', 'MONGO', 'MYSQL', 'REDIS'];

/** Gateway by itself, as Istio's ValidateGateway judges it. */
export function checkGateway(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as {
    readonly selector?: Record<string, string>;
    readonly servers?: readonly Server[];
  };
  checkLabelName(object.metadata.name, 'metadata.name', report, 'gateway name');
  checkSelector(spec.selector, 'spec.selector', report);
  if ((spec.servers ?? []).length === 0) report.required('spec.servers', 'gateway must have at least one server');
  const names = new Set<string>();
  const ports = new Set<string>();
  for (const [i, server] of (spec.servers ?? []).entries()) {
    const path = `spec.servers[${i}]`;
    const port = server.port?.name ?? '';
    if (server.name && names.has(server.name))
      report.add(`${path}.name`, `server names must be unique in a gateway: ${server.name}`, 'FieldValueDuplicate');
    if (port !== '' && ports.has(port))
      report.add(
        `${path}.port.name`,
        `port names in servers must be unique: duplicate name ${port}`,
        'FieldValueDuplicate',
      );
    names.add(server.name ?? '');
    ports.add(port);
    checkServer(server, path, report, object.metadata.namespace);
  }
}

function checkServer(server: Server, path: string, report: Report, namespace: string | undefined): void {
  const { number, name, protocol = '' } = server.port ?? {};
  checkPort(number ?? 0, `${path}.port.number`, report);
  if (number !== undefined && (isMeshPort(number) || number === 22))
    report.warn(
      `${path}.port.number`,
      `no host binds port ${number} unless a Service maps it to another: it has a use of its own`,
    );
  if (!name) report.required(`${path}.port.name`, 'port name must be set');
  const upper = protocol.toUpperCase();
  if (!PROTOCOLS.includes(upper))
    report.add(
      `${path}.port.protocol`,
      `invalid protocol ${shown(protocol)}, supported protocols are ${PROTOCOLS.join(', ')}`,
      'FieldValueNotSupported',
    );
  if ((server.hosts ?? []).length === 0)
    report.required(`${path}.hosts`, 'server config must contain at least one host');
  for (const [i, host] of (server.hosts ?? []).entries()) {
    if (host.startsWith('~/')) report.add(`${path}.hosts[${i}]`, `${shown(host)}: ~ names no namespace of a gateway`);
    checkNamespacedHost(host, `${path}.hosts[${i}]`, report);
  }
  checkBind(server.bind, `${path}.bind`, report);
  checkTlsOfPort(server, upper, path, report, namespace);
}

function checkBind(bind: string | undefined, path: string, report: Report): void {
  if (!bind) return;
  if (bind.startsWith('unix:'))
    report.add(path, 'unix sockets are not allowed: they would open files on hosts', 'FieldValueForbidden');
  else if (ipVersion(bind) === 0) report.add(path, `${shown(bind)} is not an IP address`);
}

function checkTlsOfPort(
  { tls }: Server,
  protocol: string,
  path: string,
  report: Report,
  namespace: string | undefined,
): void {
  const secure = protocol === 'HTTPS' || protocol === 'TLS';
  if (tls === undefined) {
    if (secure) report.required(`${path}.tls`, 'server must have TLS settings for HTTPS/TLS protocols');
    return;
  }
  const through = isPassthrough(tls);
  if (HTTP.includes(protocol)) {
    // Only the redirect to https goes with plain HTTP.
    if (!through || tls.caCertificates || tls.privateKey || tls.serverCertificate)
      report.add(`${path}.tls`, 'server cannot have TLS settings for plain text HTTP ports');
  } else {
    if (!secure && PROTOCOLS.includes(protocol))
      report.add(`${path}.tls`, 'server cannot have TLS settings for non HTTPS/TLS ports');
    if (tls.httpsRedirect === true)
      report.warn(`${path}.tls.httpsRedirect`, 'tls.httpsRedirect should only be used with http servers');
  }
  checkServerTls(tls, `${path}.tls`, report, namespace);
}

function isPassthrough({ mode = 'PASSTHROUGH' }: ServerTls): boolean {
  return mode === 'PASSTHROUGH' || mode === 'AUTO_PASSTHROUGH';
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

/** ServerTLSSettings of a gateway's server or a Sidecar's ingress. */
export function checkServerTls(tls: ServerTls, path: string, report: Report, namespace: string | undefined): void {
  checkVersions(tls, path, report);
  checkCiphers(tls, path, report);
  for (const field of ['serverCertificate', 'privateKey', 'caCertificates', 'caCrl'] as const)
    checkTlsFile(tls[field], `${path}.${field}`, report, namespace);
  for (const [i, pair] of (tls.tlsCertificates ?? []).entries())
    for (const field of ['serverCertificate', 'privateKey'] as const)
      checkTlsFile(pair[field], `${path}.tlsCertificates[${i}].${field}`, report, namespace);
  checkCredentialNames(tls, path, report);
  if (tls.mode === 'ISTIO_MUTUAL') {
    for (const field of OWN_CERTIFICATES.filter((one) => isSet(tls[one])))
      report.add(`${path}.${field}`, `ISTIO_MUTUAL TLS cannot have associated ${field}`);
    return;
  }
  const sources = OWN_CERTIFICATES.filter(
    (field) => field !== 'privateKey' && field !== 'caCertificates' && isSet(tls[field]),
  );
  if (isPassthrough(tls)) {
    if (sources.length > 0 || isSet(tls.caCertificates) || isSet(tls.caCrl))
      report.warn(path, `${tls.mode ?? 'PASSTHROUGH'} mode does not use certificates, they will be ignored`);
    return;
  }
  if (sources.length > 1)
    report.add(
      path,
      `only one of ${sources.join(', ')} should be specified: they name the certificate in different ways`,
    );
  checkCertificates(tls, path, report);
  warnUnasked(tls, path, report);
}

/** What no Secret can be called would be asked for in vain. */
function checkCredentialNames(tls: ServerTls, path: string, report: Report): void {
  const named: [string, string | undefined][] = [
    [`${path}.credentialName`, tls.credentialName],
    ...(tls.credentialNames ?? []).map((name, i): [string, string] => [`${path}.credentialNames[${i}]`, name]),
    [`${path}.caCertCredentialName`, tls.caCertCredentialName],
  ];
  for (const [at, name] of named)
    if (name && (!SUBDOMAIN.test(name) || name.length > 240))
      report.add(at, `${shown(name)} is not the name of a Secret: it lies in the gateway workload's namespace`);
}

const OWN_CERTIFICATES = [
  'serverCertificate',
  'privateKey',
  'caCertificates',
  'tlsCertificates',
  'credentialName',
  'credentialNames',
] as const;

function isSet(value: string | readonly unknown[] | undefined): boolean {
  return value !== undefined && value.length > 0;
}

function checkCertificates(tls: ServerTls, path: string, report: Report): void {
  const mutual = tls.mode !== 'SIMPLE';
  const prefix = mutual ? 'MUTUAL TLS' : 'SIMPLE TLS';
  const credentials = tls.credentialNames ?? [];
  if (isSet(tls.caCrl) && isSet(tls.credentialName))
    report.add(`${path}.caCrl`, 'CRL is not supported with credentialName. CRL has to be specified in the credential');
  else if (isSet(tls.caCrl) && !mutual) report.add(`${path}.caCrl`, 'CRL is not supported with SIMPLE TLS');
  if (credentials.length > 2)
    report.warn(`${path}.credentialNames`, `${prefix} can support up to 2 server certificates`);
  if (isSet(tls.credentialName) || credentials.length > 0) return;
  if (mutual && !isSet(tls.caCertificates) && !isSet(tls.caCertCredentialName))
    report.required(`${path}.caCertificates`, `${prefix} requires a client CA bundle`);
  const pairs = tls.tlsCertificates ?? [];
  if (pairs.length > 2) report.warn(`${path}.tlsCertificates`, `${prefix} can support up to 2 server certificates`);
  const all =
    pairs.length === 0
      ? [{ at: path, pair: tls }]
      : pairs.map((pair, i) => ({ at: `${path}.tlsCertificates[${i}]`, pair }));
  for (const { at, pair } of all) {
    if (!pair.serverCertificate) report.required(`${at}.serverCertificate`, `${prefix} requires a server certificate`);
    if (!pair.privateKey) report.required(`${at}.privateKey`, `${prefix} requires a private key`);
  }
}

/** What looks at clients' certificates means nothing where none is asked for. */
function warnUnasked(tls: ServerTls, path: string, report: Report): void {
  if (tls.mode !== 'SIMPLE') return;
  for (const field of [
    'subjectAltNames',
    'verifyCertificateSpki',
    'verifyCertificateHash',
    'caCertCredentialName',
  ] as const)
    if (isSet(tls[field])) report.warn(`${path}.${field}`, 'has no effect: SIMPLE asks clients for no certificate');
}

function checkVersions(tls: ServerTls, path: string, report: Report): void {
  const version = (text: string | undefined): number =>
    ['TLSV1_0', 'TLSV1_1', 'TLSV1_2', 'TLSV1_3'].indexOf(text ?? '');
  const [min, max] = [version(tls.minProtocolVersion), version(tls.maxProtocolVersion)];
  if (min >= 0 && max >= 0 && min > max) report.add(path, 'minProtocolVersion is above maxProtocolVersion');
  if ((min === 0 || min === 1) && (tls.cipherSuites ?? []).length === 0)
    report.warn(
      `${path}.minProtocolVersion`,
      'TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer include compatible ciphers.',
    );
}

function checkCiphers({ cipherSuites = [] }: ServerTls, path: string, report: Report): void {
  for (const [i, name] of cipherSuites.entries()) {
    if (!isCipherSuite(name)) report.warn(`${path}.cipherSuites[${i}]`, `ignoring invalid cipher suite ${shown(name)}`);
    else if (cipherSuites.indexOf(name) < i)
      report.warn(`${path}.cipherSuites[${i}]`, `ignoring duplicate cipher suite ${name}`);
  }
}

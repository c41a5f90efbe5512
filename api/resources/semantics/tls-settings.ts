import { dnsNameFault } from '../formats.ts';
import type { Report } from '../report.ts';

/** Istio's ClientTLSSettings. */
export interface ClientTls {
  readonly mode?: string;
  readonly clientCertificate?: string;
  readonly privateKey?: string;
  readonly caCertificates?: string;
  readonly caCrl?: string;
  readonly credentialName?: string;
  readonly subjectAltNames?: readonly string[];
  readonly sni?: string;
  readonly insecureSkipVerify?: boolean;
}

/**
 * Folder from which objects may name certificate files of hosts (DESIGN 3.2); anything else is refused. It is how objects name the folder
 * that each host's agent.yaml allows (`tlsFiles`), wherever that lies. What is right in it is for every namespace, a folder in it for the
 * namespace of that name alone: a key that one namespace may use must not serve another.
 */
export const TLS_FILE_FOLDER = '/etc/mesh/tls/';

const FILES = ['clientCertificate', 'privateKey', 'caCertificates', 'caCrl'] as const;

/** Fields that mean something in a mode; Istio ignores the others, or refuses them. */
const OF_MODE: Readonly<Record<string, readonly (keyof ClientTls)[]>> = {
  DISABLE: [],
  ISTIO_MUTUAL: ['sni', 'subjectAltNames'],
  SIMPLE: ['sni', 'subjectAltNames', 'caCertificates', 'caCrl', 'credentialName', 'insecureSkipVerify'],
  MUTUAL: [...FILES, 'sni', 'subjectAltNames', 'credentialName', 'insecureSkipVerify'],
};

/** Which settings go with which mode (Istio's validateTLS). `namespace`: the object's. */
export function checkClientTls(tls: ClientTls | undefined, path: string, report: Report, namespace: string): void {
  if (tls === undefined) return;
  const mode = tls.mode ?? 'DISABLE';
  if (tls.mode === undefined) report.warn(path, 'no TLS mode is set: DISABLE is meant');
  for (const field of FILES) checkTlsFile(tls[field], `${path}.${field}`, report, namespace);
  const files = FILES.filter((field) => tls[field]);
  for (const field of OF_MODE.MUTUAL ?? []) {
    if (isSet(tls[field]) && !(OF_MODE[mode] ?? []).includes(field))
      report.add(`${path}.${field}`, `${field} cannot be specified in TLS mode ${mode}`);
  }
  if (tls.insecureSkipVerify === true) checkUnverified(tls, path, report);
  if (mode !== 'SIMPLE' && mode !== 'MUTUAL') return;
  if (tls.credentialName) {
    if (dnsNameFault(tls.credentialName, false) !== undefined)
      report.add(`${path}.credentialName`, 'must be the name of a Secret of the namespace of the clients');
    for (const field of files) report.add(`${path}.${field}`, `cannot specify credentialName and ${field} in one`);
    return;
  }
  if (mode !== 'MUTUAL') return;
  if (!tls.clientCertificate)
    report.required(`${path}.clientCertificate`, 'client certificate required for mutual tls');
  if (!tls.privateKey) report.required(`${path}.privateKey`, 'private key required for mutual tls');
}

function isSet(value: ClientTls[keyof ClientTls]): boolean {
  return Array.isArray(value) ? value.length > 0 : Boolean(value);
}

/** Nothing is verified, so nothing may say what to verify by. */
function checkUnverified(tls: ClientTls, path: string, report: Report): void {
  const fields = ['caCertificates', 'caCrl', 'subjectAltNames'] as const;
  for (const field of [...fields, ...(tls.mode === 'SIMPLE' ? (['credentialName'] as const) : [])]) {
    if (isSet(tls[field])) report.add(`${path}.${field}`, `cannot specify ${field} when insecureSkipVerify is true`);
  }
  report.warn(`${path}.insecureSkipVerify`, 'the server is not verified: whoever is in between can pose as it');
}

/** A file on a host that an object names: below the folder set aside for it, no way out of it, in no other namespace's part. */
export function checkTlsFile(file: string | undefined, path: string, report: Report, namespace?: string): void {
  if (file === undefined || file === '') return;
  const parts = file.startsWith(TLS_FILE_FOLDER) ? file.slice(TLS_FILE_FOLDER.length).split('/') : [];
  const plain = parts.length > 0 && parts.every((part) => part !== '' && part !== '.' && part !== '..');
  if (!plain || /[\0~]/.test(file)) {
    report.add(path, `files on hosts must lie in ${TLS_FILE_FOLDER}`, 'FieldValueForbidden');
  } else if (parts.length > 1 && namespace !== undefined && parts[0] !== namespace) {
    const why = `${TLS_FILE_FOLDER}${parts[0]}/ is for objects of namespace ${parts[0]}`;
    report.add(path, `${why}; this one is of ${namespace}`, 'FieldValueForbidden');
  }
}

import type { Report } from '../report.ts';

/** Istio's ClientTLSSettings. */
export interface ClientTls {
  readonly mode?: string;
  readonly clientCertificate?: string;
  readonly privateKey?: string;
  readonly caCertificates?: string;
  readonly credentialName?: string;
  readonly subjectAltNames?: readonly string[];
  readonly sni?: string;
  readonly insecureSkipVerify?: boolean;
}

/** Folder on hosts from which a namespace's objects may name certificate files (DESIGN 3.2); anything else is refused. */
export const TLS_FILE_FOLDER = '/etc/mesh/tls/';

/** Which settings go with which mode (Istio's validateTLS). */
export function checkClientTls(tls: ClientTls | undefined, path: string, report: Report): void {
  if (tls === undefined) return;
  const files = (['clientCertificate', 'privateKey', 'caCertificates'] as const).filter((field) => tls[field]);
  for (const field of files) checkTlsFile(tls[field], `${path}.${field}`, report);
  if (tls.mode === undefined) report.warn(path, 'no TLS mode is set: DISABLE is meant');
  if (tls.mode === 'ISTIO_MUTUAL' || tls.mode === 'DISABLE' || tls.mode === undefined) {
    for (const field of [...files, ...(tls.credentialName ? (['credentialName'] as const) : [])])
      report.add(`${path}.${field}`, `${field} cannot be specified in TLS mode ${tls.mode ?? 'DISABLE'}`);
  }
  if (tls.mode !== 'MUTUAL') return;
  if (tls.credentialName) {
    for (const field of files) report.add(`${path}.${field}`, `cannot specify credentialName and ${field} in one`);
    return;
  }
  if (!tls.clientCertificate)
    report.required(`${path}.clientCertificate`, 'client certificate required for mutual tls');
  if (!tls.privateKey) report.required(`${path}.privateKey`, 'private key required for mutual tls');
}

/** A file on a host that an object names: below the folder set aside for it, no way out of it. */
export function checkTlsFile(file: string | undefined, path: string, report: Report): void {
  if (file === undefined || file === '') return;
  const inside = file.startsWith(TLS_FILE_FOLDER) && !file.split('/').some((part) => part === '..' || part === '.');
  if (!inside) report.add(path, `files on hosts must lie in ${TLS_FILE_FOLDER}`, 'FieldValueForbidden');
}

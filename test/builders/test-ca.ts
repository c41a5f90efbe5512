import { generateKeyPairSync, type KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { controllerSpiffeId, hostDnsName, hostSpiffeId, workloadSpiffeId } from '../../api/identity/spiffe-id.ts';
import { issueCertificate } from '../../api/identity/x509.ts';

export interface TestIdentity {
  /** Leaf, then intermediate. */
  readonly chainPem: string;
  readonly leaf: X509Certificate;
  readonly privateKey: KeyObject;
  readonly privateKeyPem: string;
}

/** A real CA with one intermediate, for tests: issues SVIDs as the controller does. */
export interface TestCa {
  readonly trustDomain: string;
  readonly rootPem: string;
  readonly intermediatePem: string;
  readonly intermediate: X509Certificate;
  host(hostId: string, times?: Times): TestIdentity;
  workload(namespace: string, serviceAccount: string, hostId: string, times?: Times): TestIdentity;
  server(dnsNames: string[], ipAddresses: string[]): TestIdentity;
  /** A controller replica's serving certificate, with its SPIFFE ID. */
  controller(replica: string, ipAddresses: string[]): TestIdentity;
}

interface Times {
  readonly notBefore?: number;
  readonly notAfter?: number;
}

const DAY = 86_400_000;

export function createTestCa(trustDomain = 'mesh.test'): TestCa {
  const root = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const middle = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const notBefore = Date.now() - DAY;
  const common = { serial: randomBytes(16), notBefore, notAfter: notBefore + 3650 * DAY };
  const rootName = `${trustDomain} test root`;
  const middleName = `${trustDomain} test replica ${randomBytes(4).toString('hex')}`;
  const rootPem = issueCertificate({
    ...common,
    commonName: rootName,
    publicKey: root.publicKey,
    issuer: { commonName: rootName, privateKey: root.privateKey },
    ca: { pathLength: 1 },
  });
  const intermediatePem = issueCertificate({
    ...common,
    commonName: middleName,
    publicKey: middle.publicKey,
    issuer: { commonName: rootName, privateKey: root.privateKey },
    ca: { pathLength: 0 },
  });
  const issue = (
    uris: string[],
    dnsNames: string[],
    ipAddresses: string[],
    commonName: string,
    times: Times,
  ): TestIdentity => {
    const key = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const pem = issueCertificate({
      commonName,
      publicKey: key.publicKey,
      issuer: { commonName: middleName, privateKey: middle.privateKey },
      serial: randomBytes(16),
      notBefore: times.notBefore ?? Date.now() - 60_000,
      notAfter: times.notAfter ?? Date.now() + 14 * DAY,
      uris,
      dnsNames,
      ipAddresses,
    });
    return {
      chainPem: pem + intermediatePem,
      leaf: new X509Certificate(pem),
      privateKey: key.privateKey,
      privateKeyPem: key.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    };
  };
  return {
    trustDomain,
    rootPem,
    intermediatePem,
    intermediate: new X509Certificate(intermediatePem),
    host: (hostId, times = {}) =>
      issue([hostSpiffeId(trustDomain, hostId)], [hostDnsName(trustDomain, hostId)], [], '', times),
    workload: (namespace, serviceAccount, hostId, times = {}) =>
      issue(
        [workloadSpiffeId(trustDomain, namespace, serviceAccount)],
        [hostDnsName(trustDomain, hostId)],
        [],
        '',
        times,
      ),
    controller: (replica, ipAddresses) => issue([controllerSpiffeId(trustDomain, replica)], [], ipAddresses, '', {}),
    server: (dnsNames, ipAddresses) => issue([], dnsNames, ipAddresses, dnsNames[0] ?? 'server', {}),
  };
}

/**
 * The CA of one controller replica. In: public keys and identities that policy.ts allowed. Out: X.509-SVIDs (PEM chains). Keys lie in the
 * state folder, 0600, and never leave it. Hosts trust the intermediates that signed config lists, so each replica has its own
 * (DESIGN 3.4). Must never: take a name out of a CSR, issue without an explicit identity.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  X509Certificate,
} from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '../../api/errors.ts';
import { controllerSpiffeId, hostDnsName, hostSpiffeId } from '../../api/identity/spiffe-id.ts';
import { issueCertificate } from '../../api/identity/x509.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';

const DAY_MS = 86_400_000;
/** DESIGN 3.4: lives are long enough for outages of the controllers; revocation is by host and immediate. */
export const LIFETIMES_MS = {
  root: 3650 * DAY_MS,
  intermediate: 1825 * DAY_MS,
  hostSvid: 30 * DAY_MS,
  workloadSvid: 14 * DAY_MS,
  server: 90 * DAY_MS,
  /** Taking the principal away ends it at once. */
  operator: 365 * DAY_MS,
} as const;
/** Clocks of hosts may be behind ours by this much (the join refuses more than 10 minutes). */
const BACKDATE_MS = 15 * 60_000;

export interface Authority {
  readonly trustDomain: string;
  readonly replica: string;
  /** What operators' clients trust for the REST API. */
  readonly rootPem: string;
  readonly intermediatePem: string;
  /** PEM chain, leaf first. */
  issueHost(host: string, publicKey: KeyObject, now: number): string;
  issueWorkload(spiffeId: string, host: string, publicKey: KeyObject, now: number): string;
  /** The replica's own TLS identity for REST and the API for agents; a new key each time. */
  issueServer(
    names: { readonly dnsNames: readonly string[]; readonly ipAddresses: readonly string[] },
    now: number,
  ): ServerIdentity;
  /** An operator's client certificate: CN is the principal's name; a new key. */
  issueOperator(principal: string, now: number): ServerIdentity;
  /** The same for a key that the operator made and keeps. PEM chain. */
  issueOperatorFor(principal: string, publicKey: KeyObject, now: number): string;
}

export interface ServerIdentity {
  readonly chainPem: string;
  readonly keyPem: string;
}

const FILES = {
  rootKey: 'ca-root.key',
  root: 'ca-root.pem',
  key: 'ca-intermediate.key',
  intermediate: 'ca-intermediate.pem',
};

/** Makes root and intermediate in `dir` (0700); refuses to overwrite. The root's key is needed again only for a new replica. */
export async function initAuthority(dir: string, trustDomain: string, replica: string, now: number): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const root = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const own = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuer = { commonName: `Hostmesh root of ${trustDomain}`, privateKey: root.privateKey };
  const notBefore = now - BACKDATE_MS;
  const rootPem = issueCertificate({
    commonName: issuer.commonName,
    publicKey: root.publicKey,
    issuer,
    serial: randomBytes(16),
    notBefore,
    notAfter: now + LIFETIMES_MS.root,
    ca: { pathLength: 1 },
  });
  const intermediatePem = issueCertificate({
    commonName: `Hostmesh ${replica} of ${trustDomain}`,
    publicKey: own.publicKey,
    issuer,
    serial: randomBytes(16),
    notBefore,
    notAfter: now + LIFETIMES_MS.intermediate,
    ca: { pathLength: 0 },
  });
  const pem = (key: KeyObject) => key.export({ format: 'pem', type: 'pkcs8' }).toString();
  await writeFileAtomic(join(dir, FILES.rootKey), pem(root.privateKey));
  await writeFileAtomic(join(dir, FILES.key), pem(own.privateKey));
  await writeFileAtomic(join(dir, FILES.root), rootPem, 0o644);
  await writeFileAtomic(join(dir, FILES.intermediate), intermediatePem, 0o644);
}

/** Reads what initAuthority made. Throws CA_STATE_LOST when a file is missing or does not fit its key. */
export async function loadAuthority(dir: string, trustDomain: string, replica: string): Promise<Authority> {
  const read = async (file: string) => {
    try {
      return await readFile(join(dir, file), 'utf8');
    } catch (cause) {
      throw new MeshError(
        'CA_STATE_LOST',
        `cannot read ${join(dir, file)}; restore it from a backup, or run \`mesh-controller init\``,
        { cause },
      );
    }
  };
  const rootPem = await read(FILES.root);
  const intermediatePem = await read(FILES.intermediate);
  const keyPem = await read(FILES.key);
  const privateKey = parsed(join(dir, FILES.key), () => createPrivateKey(keyPem));
  const certificate = parsed(join(dir, FILES.intermediate), () => new X509Certificate(intermediatePem));
  parsed(join(dir, FILES.root), () => new X509Certificate(rootPem));
  if (!createPublicKey(privateKey).equals(certificate.publicKey)) {
    throw new MeshError('CA_STATE_LOST', `${FILES.key} is not the key of ${FILES.intermediate} in ${dir}`);
  }
  return createAuthority({ trustDomain, replica, rootPem, intermediatePem, privateKey });
}

function parsed<T>(path: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw new MeshError('CA_STATE_LOST', `${path} is broken; restore it from a backup`, { cause });
  }
}

/** An authority over an intermediate key held in memory. */
export function createAuthority(options: {
  trustDomain: string;
  replica: string;
  rootPem: string;
  intermediatePem: string;
  privateKey: KeyObject;
}): Authority {
  const { trustDomain, replica, rootPem, intermediatePem, privateKey } = options;
  const subject = new X509Certificate(intermediatePem).subject;
  const issuer = { commonName: subject.replace(/^CN=/, ''), privateKey };
  const leaf = (spec: {
    commonName?: string;
    publicKey: KeyObject;
    uris?: string[];
    dnsNames?: readonly string[];
    ipAddresses?: readonly string[];
    now: number;
    lifetimeMs: number;
  }): string =>
    issueCertificate({
      commonName: spec.commonName ?? '',
      publicKey: spec.publicKey,
      issuer,
      serial: randomBytes(16),
      notBefore: spec.now - BACKDATE_MS,
      notAfter: spec.now + spec.lifetimeMs,
      uris: spec.uris ?? [],
      dnsNames: spec.dnsNames ?? [],
      ipAddresses: spec.ipAddresses ?? [],
    }) + intermediatePem;
  const operator = (principal: string, publicKey: KeyObject, now: number): string =>
    leaf({
      commonName: principal,
      publicKey,
      uris: [`spiffe://${trustDomain}/operator/${principal}`],
      now,
      lifetimeMs: LIFETIMES_MS.operator,
    });
  const withKey = (issue: (publicKey: KeyObject) => string): ServerIdentity => {
    const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    return {
      chainPem: issue(pair.publicKey),
      keyPem: pair.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    };
  };
  return {
    trustDomain,
    replica,
    rootPem,
    intermediatePem,
    issueHost: (host, publicKey, now) =>
      leaf({
        publicKey,
        uris: [hostSpiffeId(trustDomain, host)],
        dnsNames: [hostDnsName(trustDomain, host)],
        now,
        lifetimeMs: LIFETIMES_MS.hostSvid,
      }),
    issueWorkload: (spiffeId, host, publicKey, now) =>
      leaf({
        publicKey,
        uris: [spiffeId],
        dnsNames: [hostDnsName(trustDomain, host)],
        now,
        lifetimeMs: LIFETIMES_MS.workloadSvid,
      }),
    issueServer: ({ dnsNames, ipAddresses }, now) =>
      withKey((publicKey) =>
        leaf({
          publicKey,
          uris: [controllerSpiffeId(trustDomain, replica)],
          dnsNames,
          ipAddresses,
          now,
          lifetimeMs: LIFETIMES_MS.server,
        }),
      ),
    issueOperator: (principal, now) => withKey((publicKey) => operator(principal, publicKey, now)),
    issueOperatorFor: operator,
  };
}

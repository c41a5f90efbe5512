/**
 * Certificates, keys and CA bundles that lie on the host as files, for Envoy by SDS. In: the SDS names that translation asks for, each with
 * the objects behind it. Out: their PEM, again when a file changes; a line of what is wrong with which file. Files are read by the agent's own
 * user, from the one folder that agent.yaml allows. Never: a file outside it, a key that does not fit its certificate, trust where a CA file
 * is missing (a CA that nobody has stands in: such a cluster connects to nobody).
 */
import { createPrivateKey, generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { errorLine, MeshError } from '../../api/errors.ts';
import { issueCertificate } from '../../api/identity/x509.ts';
import type { ObjectKey } from '../../api/resources/object.ts';
import { secretsOfSdsName } from '../../api/resources/secret-data.ts';
import { TLS_FILE_FOLDER } from '../../api/resources/semantics/tls-settings.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';
import { fingerprint, readInside, readSystem } from './read-file.ts';

/** What goes to Envoy under one name. */
export type FileMaterial =
  | { readonly certificateChainPem: string; readonly privateKeyPem: string }
  | { readonly trustedCaPem: string; readonly validation?: { readonly crl: { readonly inline_string: string } } };

export interface TlsFilesDeps {
  /** Where TLS_FILE_FOLDER lies on this host; empty: no file is read for any object. */
  readonly folder: string;
  /** Bundles of the operating system, the first that exists counts. */
  readonly systemRoots?: readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
}

export interface TlsFiles extends Part {
  /** Names that clusters and listeners ask for now, with the objects that they are from. Names of other sources are passed over. */
  want(secrets: ReadonlyMap<string, readonly ObjectKey[]>): void;
  /** Undefined for a name that is not wanted, and for a certificate that cannot be had. Asked after those who have Secrets. */
  get(name: string): FileMaterial | undefined;
  onChange(listener: () => void): void;
  /** One line a file that cannot be used, with the objects that name it. */
  problems(): readonly string[];
}

/** Where distributions keep their CA bundle: Debian and its like, Fedora and its like (two names), SUSE, Alpine. */
export const SYSTEM_ROOTS: readonly string[] = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

const CERTIFICATE = 'file-cert:';
const ROOTS = 'file-root:';
const SYSTEM = 'system';
/** Asked for where a client may have no Secret: it connects to nobody. */
const NOBODY = `${ROOTS}nobody`;
const LOOK_EVERY_MS = 5000;

interface Loaded {
  readonly origins: readonly ObjectKey[];
  material: FileMaterial | undefined;
  problem: string | undefined;
  /** Of the files behind it, when they were read. */
  seen: string;
}

/** True for names that this room answers. */
export function isFileSecret(name: string): boolean {
  return name.startsWith(CERTIFICATE) || name.startsWith(ROOTS);
}

export function createTlsFiles(deps: TlsFilesDeps): TlsFiles {
  const { clock, log, systemRoots = SYSTEM_ROOTS } = deps;
  const listeners: (() => void)[] = [];
  const wanted = new Map<string, Loaded>();
  let nobody: string | undefined;
  /** Names of CAs in Secrets: until the Secret is here, nobody stands in for them too, or a cluster would wait for it and its plaintext predecessor go on. */
  let credentials: ReadonlySet<string> = new Set();
  let cancel = () => {};
  let running = false;

  const located = (file: string): string => {
    if (file === SYSTEM) return systemRoots.find((path) => fingerprint(path) !== '-') ?? (systemRoots[0] as string);
    return join(deps.folder, file.slice(TLS_FILE_FOLDER.length));
  };

  const read = (file: string): string => {
    try {
      if (file === SYSTEM) return readSystem(located(file));
      const parts = file.slice(TLS_FILE_FOLDER.length).split('/');
      const inside = file.startsWith(TLS_FILE_FOLDER) && parts.every((part) => !['', '.', '..'].includes(part));
      if (!inside || deps.folder === '') throw new MeshError('TLS_FILE_UNREADABLE', 'agent.yaml allows no such file');
      return readInside(deps.folder, located(file));
    } catch (error) {
      const name = file === SYSTEM ? `the system’s CA bundle (${located(file)})` : file;
      throw new MeshError('TLS_FILE_UNREADABLE', `${name}: ${(error as Error).message}`, { cause: error });
    }
  };

  const load = (name: string, into: Loaded): void => {
    const before = JSON.stringify([into.material, into.problem]);
    into.seen = look(name);
    try {
      into.material = materialOf(name, read);
      into.problem = undefined;
    } catch (error) {
      // What was good goes on: a certificate is replaced before its key, and Envoy keeps what it has anyway.
      into.problem = error instanceof MeshError ? error.message : errorLine(error);
      log.warn('a TLS file cannot be used', { secret: name, origins: into.origins, reason: into.problem });
    }
    if (before !== JSON.stringify([into.material, into.problem]) && into.material !== undefined)
      log.info('TLS files read', { secret: name });
  };

  const look = (name: string): string =>
    filesOf(name)
      .map((file) => (file === '' ? '' : fingerprint(located(file))))
      .join('|');

  const lookAgain = () => {
    let changed = false;
    for (const [name, loaded] of wanted) {
      if (look(name) === loaded.seen) continue;
      load(name, loaded);
      changed = true;
    }
    if (changed) for (const listener of listeners) listener();
  };
  const again = () => {
    cancel = clock.after(LOOK_EVERY_MS, () => {
      lookAgain();
      if (running) again();
    });
  };

  return {
    name: 'tls-files',
    async start() {
      running = true;
      again();
    },
    async stop() {
      running = false;
      cancel();
    },
    want(secrets) {
      credentials = new Set(
        [...secrets.keys()].filter((name) => name === NOBODY || secretsOfSdsName(name)?.part === 'ca'),
      );
      const names = [...secrets].filter(([name]) => name !== NOBODY && isFileSecret(name));
      for (const name of wanted.keys()) if (!secrets.has(name)) wanted.delete(name);
      for (const [name, origins] of names) {
        const known = wanted.get(name);
        const loaded: Loaded = known === undefined ? { ...EMPTY, origins } : { ...known, origins };
        if (known === undefined) load(name, loaded);
        wanted.set(name, loaded);
      }
    },
    get(name) {
      const loaded = wanted.get(name);
      if (loaded?.material !== undefined) return loaded.material;
      if (!credentials.has(name) && (loaded === undefined || !name.startsWith(ROOTS))) return undefined;
      nobody ??= caOfNobody(clock.now());
      return { trustedCaPem: nobody };
    },
    onChange: (listener) => void listeners.push(listener),
    problems: () =>
      [...wanted.values()].flatMap(({ origins, problem }) =>
        problem === undefined ? [] : [`${origins.join(', ')}: ${problem}`],
      ),
  };
}

const EMPTY: Loaded = { origins: [], material: undefined, problem: undefined, seen: '' };

/** Files behind a name, in the order that it has them; `system` among them. */
function filesOf(name: string): readonly string[] {
  return name.slice(name.startsWith(ROOTS) ? ROOTS.length : CERTIFICATE.length).split('~');
}

function materialOf(name: string, read: (file: string) => string): FileMaterial {
  const [first = '', second] = filesOf(name);
  if (name.startsWith(ROOTS)) {
    const trustedCaPem = certificates(first, read(first));
    if (second === undefined) return { trustedCaPem };
    return { trustedCaPem, validation: { crl: { inline_string: revocations(second, read(second)) } } };
  }
  const chain = certificates(first, read(first));
  const key = read(second ?? '');
  let fits: boolean;
  try {
    fits = new X509Certificate(chain).checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw bad(second ?? '', 'no private key in PEM that can be read without a passphrase', cause);
  }
  if (!fits) throw bad(second ?? '', `not the key of the certificate in ${first}`);
  return { certificateChainPem: chain, privateKeyPem: key };
}

/** The text, once its first certificate can be read. */
function certificates(file: string, text: string): string {
  try {
    new X509Certificate(text);
    return text;
  } catch (cause) {
    throw bad(file, 'no certificate in PEM', cause);
  }
}

function revocations(file: string, text: string): string {
  if (!/-----BEGIN X509 CRL-----[\s\S]+-----END X509 CRL-----/.test(text)) throw bad(file, 'no revocation list in PEM');
  return text;
}

function bad(file: string, why: string, cause?: unknown): MeshError {
  return new MeshError('TLS_FILE_INVALID', `${file}: ${why}`, { cause });
}

/** A CA whose key is gone before anybody could sign with it. */
function caOfNobody(now: number): string {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const commonName = 'nobody: a CA file is missing';
  return issueCertificate({
    publicKey,
    issuer: { commonName, privateKey },
    serial: randomBytes(16),
    commonName,
    ca: { pathLength: 0 },
    notBefore: now - 86_400_000,
    notAfter: now + 10 * 365 * 86_400_000,
  });
}

import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { MeshError } from '../../api/errors.ts';
import { parseChain } from '../../api/identity/x509.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';

/** A private key and its certificate chain (PEM, leaf first), with when they came. */
export interface Svid {
  readonly privateKey: KeyObject;
  readonly chainPem: string;
  readonly spiffeId: string;
  readonly issuedAt: number;
  readonly notAfter: number;
}

export function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

export function keyPem(key: KeyObject): string {
  return key.export({ format: 'pem', type: 'pkcs8' }).toString();
}

/** Key and chain in one file, 0600, written atomically: the two never differ. */
export async function saveSvid(path: string, privateKey: KeyObject, chainPem: string): Promise<void> {
  await writeFileAtomic(path, keyPem(privateKey) + chainPem);
}

/** Undefined when the file is absent. Throws IDENTITY_STATE_BAD for a file others can read, or whose key does not fit its certificate. */
export async function loadSvid(
  path: string,
): Promise<{ privateKey: KeyObject; chainPem: string; modifiedAt: number } | undefined> {
  let text: string;
  let info: Awaited<ReturnType<typeof stat>>;
  try {
    info = await stat(path);
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new MeshError('IDENTITY_STATE_BAD', `cannot read ${path}`, { cause: error });
  }
  if ((Number(info.mode) & 0o077) !== 0) {
    throw new MeshError(
      'IDENTITY_STATE_BAD',
      `${path} holds a private key and others may read it; run: chmod 600 ${path}`,
    );
  }
  const split = text.indexOf('-----BEGIN CERTIFICATE-----');
  try {
    const privateKey = createPrivateKey(text.slice(0, split));
    const chainPem = text.slice(split);
    if (createPublicKey(privateKey).equals(parseChain(chainPem)[0]?.publicKey as KeyObject)) {
      return { privateKey, chainPem, modifiedAt: Number(info.mtimeMs) };
    }
  } catch (cause) {
    throw new MeshError('IDENTITY_STATE_BAD', `${path} is damaged; join again with a new join string`, { cause });
  }
  throw new MeshError(
    'IDENTITY_STATE_BAD',
    `${path} holds a key and a certificate that do not belong together; join again`,
  );
}

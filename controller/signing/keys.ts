/** Signing keys: P-256, PKCS#8 PEM files of mode 0600, encrypted when a passphrase is given. Private keys never leave this file's objects. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Key, Signature } from '@tufjs/models';
import { MeshError } from '../../api/errors.ts';
import { canonicalJson, sha256Hex } from '../../api/signed-config/canonical.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';

/** A private key and its public half as TUF names it. */
export interface SigningKey {
  readonly key: Key;
  sign(data: Uint8Array): Signature;
}

/** A fresh P-256 key. */
export function generateSigningKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

/** `privateKey` (P-256) for TUF; the id is the sha256 of the canonical public key (TUF 4.2). Throws SIGNING_KEY_INVALID. */
export function signingKey(privateKey: KeyObject): SigningKey {
  if (privateKey.type !== 'private' || privateKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw new MeshError('SIGNING_KEY_INVALID', 'a signing key is a P-256 private key');
  const publicPem = createPublicKey(privateKey).export({ format: 'pem', type: 'spki' }).toString();
  const json = { keytype: 'ecdsa', scheme: 'ecdsa-sha2-nistp256', keyval: { public: publicPem } };
  const keyID = sha256Hex(canonicalJson(json));
  return {
    key: Key.fromJSON(keyID, json),
    sign: (data) => new Signature({ keyID, sig: sign('sha256', data, privateKey).toString('hex') }),
  };
}

/** Writes a private key, mode 0600, whole or not at all. */
export async function writeSigningKey(path: string, privateKey: KeyObject, passphrase?: string): Promise<void> {
  const encrypted = passphrase === undefined ? {} : { cipher: 'aes-256-cbc', passphrase };
  await writeFileAtomic(path, privateKey.export({ format: 'pem', type: 'pkcs8', ...encrypted }).toString());
}

/** Reads a key that writeSigningKey wrote. Throws SIGNING_KEY_INVALID, naming the file. */
export async function readSigningKey(path: string, passphrase?: string): Promise<SigningKey> {
  try {
    return signingKey(createPrivateKey({ key: await readFile(path), format: 'pem', passphrase }));
  } catch (cause) {
    throw new MeshError('SIGNING_KEY_INVALID', `${path} is not a readable P-256 key; restore it from the backup`, {
      cause,
    });
  }
}

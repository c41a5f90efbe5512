/**
 * Secrets at rest. In: a validated v1/Secret, or one as it is stored. Out: the same with its values encrypted, or its values. AES-256-GCM
 * under a key of the controller's own (keys/secrets.key), bound to the object's key: a row moved to another name does not open. Must never
 * log or throw a value.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { MeshError } from '../../api/errors.ts';
import { keyOf, type MeshObject } from '../../api/resources/object.ts';
import { effectiveData, SECRET_MARKER } from '../../api/resources/secret-data.ts';
import { canonicalJson } from '../../api/signed-config/canonical.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';

/** Values of a stored Secret, as field `sealed` beside markers in `data`. */
interface Sealed {
  /** Base64: nonce (12 bytes), ciphertext, tag (16 bytes). */
  readonly box: string;
  /** HMAC of the values under a key of its own: tells a change, and nothing else. */
  readonly digest: string;
}

/** Values by key, base64. */
export type SecretData = Readonly<Record<string, string>>;

export interface SecretVault {
  /** The Secret as it is stored: markers in `data`, values sealed, stringData and kubectl's copy of the values gone. */
  seal(object: MeshObject, before?: MeshObject): MeshObject;
  /** Its values. Throws SECRET_UNREADABLE for a row of another key or name. */
  open(stored: MeshObject): SecretData;
  /** Changes with the values and with nothing else; safe to show to who may have them. Empty for what was never sealed. */
  versionOf(stored: MeshObject): string;
}

const KUBECTL_COPY = 'kubectl.kubernetes.io/last-applied-configuration';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** `key`: 32 bytes. */
export function createSecretVault(key: Buffer): SecretVault {
  const derive = (use: string) => Buffer.from(hkdfSync('sha256', key, '', `hostmesh ${use}`, 32));
  const [boxKey, digestKey] = [derive('secrets'), derive('secret digests')];
  const aad = (object: MeshObject) => Buffer.from(keyOf(object));
  return {
    seal(object, before) {
      const { data: _data, stringData: _strings, sealed: _sealed, metadata, ...rest } = object;
      const values = effectiveData(object as { data?: SecretData; stringData?: SecretData });
      const text = canonicalJson(values);
      const digest = createHmac('sha256', digestKey).update(text).digest('base64');
      const known = sealedOf(before);
      const { [KUBECTL_COPY]: _copy, ...annotations } = metadata.annotations ?? {};
      return {
        ...(rest as MeshObject),
        metadata: { ...metadata, ...(metadata.annotations === undefined ? {} : { annotations }) },
        type: object.type || 'Opaque',
        data: Object.fromEntries(Object.keys(values).map((name) => [name, SECRET_MARKER])),
        sealed: known?.digest === digest ? known : { box: encrypt(text, boxKey, aad(object)), digest },
      };
    },
    open(stored) {
      const sealed = sealedOf(stored);
      try {
        return JSON.parse(decrypt(sealed?.box ?? '', boxKey, aad(stored))) as SecretData;
      } catch {
        // The cause would tell nothing: it is one of GCM's.
        throw new MeshError('SECRET_UNREADABLE', `${keyOf(stored)} cannot be decrypted: write it again`);
      }
    },
    versionOf: (stored) => sealedOf(stored)?.digest ?? '',
  };
}

function sealedOf(object: MeshObject | undefined): Sealed | undefined {
  return object?.sealed as Sealed | undefined;
}

function encrypt(text: string, key: Buffer, aad: Buffer): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad);
  return Buffer.concat([nonce, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]).toString('base64');
}

function decrypt(box: string, key: Buffer, aad: Buffer): string {
  const bytes = Buffer.from(box, 'base64');
  const nonce = bytes.subarray(0, NONCE_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES }).setAAD(aad);
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
  const text = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES));
  return Buffer.concat([text, decipher.final()]).toString('utf8');
}

/** Makes a key, 0600. */
export async function writeVaultKey(path: string): Promise<void> {
  await writeFileAtomic(path, `${randomBytes(32).toString('base64')}\n`);
}

/**
 * Reads the key. A mesh made before there were Secrets has none: it is made, unless `hasSecrets`, when a new one would lose them for good.
 * Throws SECRET_KEY_LOST.
 */
export async function loadVaultKey(path: string, hasSecrets: () => Promise<boolean>): Promise<Buffer> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return undefined;
    throw new MeshError('SECRET_KEY_LOST', `cannot read ${path}`, { cause });
  });
  if (text === undefined) {
    if (await hasSecrets())
      throw new MeshError('SECRET_KEY_LOST', `${path} is gone and the store holds Secrets: restore it from a backup`);
    await writeVaultKey(path);
    return loadVaultKey(path, async () => true);
  }
  const key = Buffer.from(text, 'base64');
  if (key.length !== 32) throw new MeshError('SECRET_KEY_LOST', `${path} is damaged: restore it from a backup`);
  return key;
}

import type { KeyObject } from 'node:crypto';
import { access, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '../../api/errors.ts';
import { sha256Hex } from '../../api/signed-config/canonical.ts';
import type { Store } from '../store/store.ts';
import { generateSigningKey, readSigningKey, type SigningKey, signingKey, writeSigningKey } from './keys.ts';
import { buildRoot, buildTargets, type RoleSpec } from './metadata.ts';
import { ROOT_ROWS, TARGETS_ROW } from './snapshot.ts';

const YEAR_MS = 365 * 86_400_000;
/** Root and targets are signed by hand, so they live long; `status` alarms before their end. */
const ROOT_LIFE_MS = 5 * YEAR_MS;

/** How many keys a role has and how many must sign; 1 of 1 by default. */
export interface Quorum {
  readonly keys: number;
  readonly threshold: number;
}

export interface InitOptions {
  /** Where key files go (mode 0600, folder 0700). Root keys stay here until the operator takes them away: `status` shows it. */
  readonly keysDir: string;
  readonly replica: string;
  readonly now: number;
  readonly root?: Quorum;
  /** Who signs `targets` and `policy`: more than one for the operators' mode. */
  readonly operators?: Quorum;
  /** Encrypts the root key files. */
  readonly rootPassphrase?: string;
}

export interface InitResult {
  /** Root version 1, byte for byte: what AGENT_API.rootV1 serves. */
  readonly rootText: string;
  /** Hex; what join strings pin. */
  readonly rootSha256: string;
  readonly keyFiles: readonly string[];
}

const ONE: Quorum = { keys: 1, threshold: 1 };

/**
 * Makes the mesh's keys, TUF root version 1 and targets version 1, once. Throws SIGNING_EXISTS when the store or the folder has them
 * already (nothing is overwritten), SIGNING_KEY_INVALID for a quorum that cannot be met.
 */
export async function initRepository(store: Pick<Store, 'get' | 'commit'>, options: InitOptions): Promise<InitResult> {
  const operatorQuorum = options.operators ?? ONE;
  const rootKeys = makeKeys('root', options.root ?? ONE);
  const targetsKeys = makeKeys('targets', operatorQuorum);
  const policyKeys = makeKeys('policy', operatorQuorum);
  const online = [{ file: onlineFile(options.replica), privateKey: generateSigningKey() }];
  const rowKey = `${ROOT_ROWS}1`;
  if ((await store.get(rowKey)) !== undefined) throw exists('the store has a root already');
  await mkdir(options.keysDir, { recursive: true, mode: 0o700 });
  const all = [...rootKeys, ...targetsKeys, ...policyKeys, ...online];
  for (const { file } of all)
    if (await isThere(join(options.keysDir, file))) throw exists(`${join(options.keysDir, file)} exists`);
  for (const { file, privateKey } of all) {
    const passphrase = file.startsWith('root-') ? options.rootPassphrase : undefined;
    await writeSigningKey(join(options.keysDir, file), privateKey, passphrase);
  }
  const expires = options.now + ROOT_LIFE_MS;
  const [root, targets, policy, replica] = [rootKeys, targetsKeys, policyKeys, online].map((keys) =>
    keys.map((key) => signingKey(key.privateKey)),
  ) as [SigningKey[], SigningKey[], SigningKey[], SigningKey[]];
  const onlineRole = roleOf(replica, 1);
  const rootText = buildRoot(
    {
      version: 1,
      expires,
      roles: {
        root: roleOf(root, (options.root ?? ONE).threshold),
        timestamp: onlineRole,
        snapshot: onlineRole,
        targets: roleOf(targets, operatorQuorum.threshold),
      },
    },
    root,
  );
  const delegations = { policy: roleOf(policy, operatorQuorum.threshold), state: onlineRole };
  const targetsText = buildTargets({ version: 1, expires, delegations }, targets);
  const result = await store.commit([
    { key: rowKey, value: JSON.stringify({ text: rootText }), ifRevision: 0 },
    { key: TARGETS_ROW, value: JSON.stringify({ text: targetsText }), ifRevision: 0 },
  ]);
  if (!result.ok) throw exists('another controller was initialised at this moment');
  return { rootText, rootSha256: sha256Hex(rootText), keyFiles: all.map(({ file }) => join(options.keysDir, file)) };
}

/** The keys a running replica signs with. Root and targets keys are not among them. */
export interface SigningKeys {
  readonly online: SigningKey;
  /** As many of the policy keys as lie here; in the operators' mode fewer than the threshold. */
  readonly policy: readonly SigningKey[];
}

/** Reads a replica's keys. Throws SIGNING_KEY_INVALID, naming the file. */
export async function loadSigningKeys(keysDir: string, replica: string): Promise<SigningKeys> {
  const online = await readSigningKey(join(keysDir, onlineFile(replica)));
  const policy: SigningKey[] = [];
  for (const file of await filesOf(keysDir, 'policy-')) policy.push(await readSigningKey(join(keysDir, file)));
  return { online, policy };
}

/** Root key files that still lie on the controller, which a demo may have and a mesh in use should not: `status` shows them. */
export async function rootKeysOnController(keysDir: string): Promise<string[]> {
  return filesOf(keysDir, 'root-');
}

async function filesOf(dir: string, prefix: string): Promise<string[]> {
  return (await readdir(dir)).filter((file) => file.startsWith(prefix) && file.endsWith('.pem')).sort();
}

function makeKeys(name: string, quorum: Quorum): { file: string; privateKey: KeyObject }[] {
  const { keys, threshold } = quorum;
  if (!Number.isInteger(keys) || !Number.isInteger(threshold) || threshold < 1 || threshold > keys || keys > 9)
    throw new MeshError('SIGNING_KEY_INVALID', `${name}: a quorum is k of n with 1 <= k <= n <= 9`);
  return Array.from({ length: keys }, (_, i) => ({ file: `${name}-${i + 1}.pem`, privateKey: generateSigningKey() }));
}

const onlineFile = (replica: string): string => `online-${replica}.pem`;

function roleOf(keys: readonly SigningKey[], threshold: number): RoleSpec {
  return { keys: keys.map(({ key }) => key), threshold };
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function exists(message: string): MeshError {
  return new MeshError('SIGNING_EXISTS', `${message}; nothing was changed`);
}

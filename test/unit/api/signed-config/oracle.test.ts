/** tuf-js, the TUF project's client, judges the same files: whatever it refuses, the verifier refuses, and what it takes, the verifier takes. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { BaseFetcher, Updater } from 'tuf-js';
import { DownloadHTTPError } from 'tuf-js/dist/error.js';
import { MeshError } from '../../../../api/errors.ts';
import { sha256Hex } from '../../../../api/signed-config/canonical.ts';
import { applyDelta, type Content, emptyContent, headOf } from '../../../../api/signed-config/content.ts';
import { CONTENT_ROLES, type ContentRole, encodeHead } from '../../../../api/signed-config/layout.ts';
import type { SignedUpdate } from '../../../../api/signed-config/update.ts';
import { acceptRoots, acceptUpdate, type TrustedState, trustAnchor } from '../../../../api/signed-config/verifier.ts';
import { generateSigningKey, type SigningKey, signingKey } from '../../../../controller/signing/keys.ts';
import {
  buildRole,
  buildRoot,
  buildSnapshot,
  buildTargets,
  buildTimestamp,
} from '../../../../controller/signing/metadata.ts';
import { optionsAt } from '../../../builders/signed-mesh.ts';

const HOUR = 3_600_000;
const key = () => signingKey(generateSigningKey());
const spec = (keys: readonly SigningKey[], threshold = 1) => ({ keys: keys.map((k) => k.key), threshold });

/** One repository with every knob that an attacker or a careless operator could turn. */
interface Knobs {
  readonly rootSigners: readonly SigningKey[];
  readonly online: SigningKey;
  readonly policySigners: readonly SigningKey[];
  readonly policyThreshold: number;
  readonly generation: number;
  readonly snapshotVersion: number;
  readonly timestampVersion: number;
  readonly expires: Partial<Record<'root' | 'timestamp' | 'snapshot' | 'targets' | 'policy', number>>;
  /** Changes a finished file; the files above it name the original. */
  readonly tamper: Partial<Record<string, (text: string) => string>>;
  readonly versionInMeta: Partial<Record<string, number>>;
  readonly roots: readonly string[];
  readonly objects: Readonly<Record<string, unknown>>;
}

const keys = {
  root: [key(), key(), key()],
  targets: [key()],
  policy: [key(), key(), key()],
  online: key(),
  newOnline: key(),
  thief: key(),
};
const now = Date.now();

function rootText(
  version: number,
  signers: readonly SigningKey[],
  online = keys.online,
  expires = now + 1000 * HOUR,
): string {
  const onlineRole = spec([online]);
  const roles = { root: spec(keys.root, 2), timestamp: onlineRole, snapshot: onlineRole, targets: spec(keys.targets) };
  return buildRoot({ version, expires, roles }, signers);
}

const ROOT_1 = rootText(1, keys.root.slice(0, 2));

function build(knobs: Partial<Knobs>): SignedUpdate {
  const k = {
    online: keys.online,
    policySigners: keys.policy.slice(0, 2),
    policyThreshold: 2,
    generation: 5,
    expires: {},
    tamper: {},
    versionInMeta: {},
    roots: [],
    objects: { mesh: { trustDomain: 'mesh.test', minCapability: 1 } },
    ...knobs,
  };
  const end = (name: keyof typeof k.expires) => (k.expires as Record<string, number>)[name] ?? now + HOUR;
  const contents: Record<ContentRole, Content> = {
    policy: applyDelta('policy', emptyContent, { set: k.objects, delete: [] }),
    state: emptyContent,
  };
  const heads = {
    policy: encodeHead(headOf(contents.policy, k.generation)),
    state: encodeHead(headOf(contents.state, k.generation)),
  };
  const targets = targetsOf(k.policyThreshold, k.online, end('targets'));
  const role = (name: ContentRole, signers: readonly SigningKey[]) =>
    buildRole({ name, head: heads[name], version: k.generation, expires: end('policy') }, signers);
  const texts: Record<string, string> = {
    targets,
    policy: role('policy', k.policySigners),
    state: role('state', [k.online]),
  };
  const version = (name: string) =>
    (k.versionInMeta as Record<string, number>)[name] ??
    (name === 'targets' ? (k.online === keys.newOnline ? 2 : 1) : k.generation);
  const files = Object.fromEntries(
    Object.entries(texts).map(([name, text]) => [name, { text, version: version(name) }]),
  );
  texts.snapshot = buildSnapshot({ version: k.snapshotVersion ?? k.generation, expires: end('snapshot'), files }, [
    k.online,
  ]);
  const snapshot = { text: texts.snapshot, version: version('snapshot') };
  texts.timestamp = buildTimestamp(
    { version: k.timestampVersion ?? k.generation, expires: end('timestamp'), signedAt: now, snapshot },
    [k.online],
  );
  for (const [name, change] of Object.entries(k.tamper)) texts[name] = change?.(texts[name] ?? '') ?? '';
  const content = Object.fromEntries(
    CONTENT_ROLES.map((name) => [name, { kind: 'full', set: Object.fromEntries(contents[name].values), delete: [] }]),
  );
  const { timestamp, policy, state } = texts;
  return {
    format: 1,
    roots: k.roots,
    timestamp,
    snapshot: texts.snapshot,
    targets: texts.targets,
    policy,
    state,
    heads,
    content,
  };
}

function ours(updates: readonly SignedUpdate[]): MeshError | undefined {
  let state: TrustedState = trustAnchor(ROOT_1);
  try {
    for (const update of updates) state = acceptUpdate(acceptRoots(state, update), update, optionsAt(now));
    return undefined;
  } catch (error) {
    if (error instanceof MeshError) return error;
    throw error;
  }
}

class Repository extends BaseFetcher {
  update: SignedUpdate;
  constructor(update: SignedUpdate) {
    super();
    this.update = update;
  }
  override async fetch(url: string): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    const name = url.split('/').at(-1) ?? '';
    const root = /^(\d+)\.root\.json$/.exec(name);
    const all = [ROOT_1, ...this.update.roots];
    const files: Record<string, string | undefined> = {
      'timestamp.json': this.update.timestamp,
      'snapshot.json': this.update.snapshot,
      'targets.json': this.update.targets,
      'policy.json': this.update.policy,
      'state.json': this.update.state,
      policy: this.update.heads?.policy,
      state: this.update.heads?.state,
    };
    const text = root === null ? files[name] : all[Number(root[1]) - 1];
    if (text === undefined) throw new DownloadHTTPError(name, 404);
    return new Blob([text]).stream();
  }
}

async function theirs(dir: string, updates: readonly SignedUpdate[]): Promise<Error | undefined> {
  mkdirSync(join(dir, 'targets'), { recursive: true });
  writeFileSync(join(dir, 'root.json'), ROOT_1);
  try {
    for (const update of updates) {
      const updater = new Updater({
        metadataDir: dir,
        metadataBaseUrl: 'http://repo',
        targetDir: join(dir, 'targets'),
        targetBaseUrl: 'http://repo',
        fetcher: new Repository(update),
        config: { prefixTargetsWithHash: false, fetchRetries: 0 },
      });
      await updater.refresh();
      for (const role of CONTENT_ROLES) {
        const info = await updater.getTargetInfo(role);
        if (info === undefined) throw new Error(`no target ${role}`);
        await updater.downloadTarget(info, join(dir, 'targets', `${role}-${sha256Hex(update.heads?.[role] ?? '')}`));
      }
    }
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

/** The same bytes for the same content: signatures differ each time, and another file under one version is equivocation. */
const targetsMade = new Map<string, string>();
function targetsOf(threshold: number, online: SigningKey, expires: number): string {
  const name = `${threshold}/${online.key.keyID}/${expires}`;
  const delegations = { policy: spec(keys.policy, threshold), state: spec([online]) };
  const version = online === keys.newOnline ? 2 : 1;
  const text = targetsMade.get(name) ?? buildTargets({ version, expires, delegations }, keys.targets);
  targetsMade.set(name, text);
  return text;
}

const root2 = rootText(2, keys.root.slice(1), keys.newOnline);
const flip = (text: string) => text.replace(/"sig":"(.)/, (_all, c: string) => `"sig":"${c === '3' ? '4' : '3'}`);
/** The update before makes the host's memory; the last one is judged. `code` undefined: both take it. */
const CASES: readonly { name: string; updates: readonly SignedUpdate[]; code?: string }[] = [
  { name: 'a good repository', updates: [build({})] },
  {
    name: 'two of three operators',
    updates: [build({ policySigners: [keys.policy[0] as SigningKey, keys.policy[2] as SigningKey] })],
  },
  {
    name: 'one of the two operators',
    updates: [build({ policySigners: keys.policy.slice(0, 1) })],
    code: 'CONFIG_THRESHOLD',
  },
  {
    name: 'one operator twice',
    updates: [build({ policySigners: [keys.policy[0] as SigningKey, keys.policy[0] as SigningKey] })],
    code: 'CONFIG_THRESHOLD',
  },
  {
    name: 'policy by the online key',
    updates: [build({ policySigners: [keys.online] })],
    code: 'CONFIG_BAD_SIGNATURE',
  },
  { name: 'all by a thief', updates: [build({ online: keys.thief })], code: 'CONFIG_BAD_SIGNATURE' },
  ...['timestamp', 'snapshot', 'targets', 'policy', 'state'].map((file) => ({
    name: `a signature of ${file} altered`,
    updates: [build({ tamper: { [file]: flip } })],
    code: file === 'timestamp' ? 'CONFIG_BAD_SIGNATURE' : 'CONFIG_MIX',
  })),
  ...(['timestamp', 'snapshot', 'targets', 'policy'] as const).map((file) => ({
    name: `${file} expired`,
    updates: [build({ expires: { [file]: now - HOUR } })],
    code: 'CONFIG_EXPIRED',
  })),
  { name: 'newer after older', updates: [build({}), build({ generation: 6 })] },
  {
    name: 'timestamp rolled back',
    updates: [build({ timestampVersion: 9 }), build({ generation: 6, timestampVersion: 8 })],
    code: 'CONFIG_ROLLBACK',
  },
  {
    name: 'snapshot rolled back',
    updates: [build({ generation: 6 }), build({ generation: 5, timestampVersion: 9 })],
    code: 'CONFIG_ROLLBACK',
  },
  {
    name: 'a role rolled back',
    updates: [
      build({ generation: 6 }),
      build({ generation: 5, snapshotVersion: 9, versionInMeta: { snapshot: 9 }, timestampVersion: 9 }),
    ],
    code: 'CONFIG_ROLLBACK',
  },
  {
    name: 'snapshot version is not the one named',
    updates: [build({ versionInMeta: { snapshot: 7 } })],
    code: 'CONFIG_MIX',
  },
  { name: 'role version is not the one named', updates: [build({ versionInMeta: { policy: 7 } })], code: 'CONFIG_MIX' },
  { name: 'a new root', updates: [build({}), build({ roots: [root2], online: keys.newOnline, generation: 6 })] },
  { name: 'a root that takes the key away', updates: [build({ roots: [root2] })], code: 'CONFIG_BAD_SIGNATURE' },
  {
    name: 'a root by one of two',
    updates: [build({ roots: [rootText(2, keys.root.slice(0, 1))] })],
    code: 'CONFIG_THRESHOLD',
  },
  { name: 'a root by a thief', updates: [build({ roots: [rootText(2, [keys.thief])] })], code: 'CONFIG_BAD_SIGNATURE' },
  {
    name: 'a root that skips a version',
    updates: [build({ roots: [rootText(3, keys.root)] })],
    code: 'CONFIG_ROLLBACK',
  },
  {
    name: 'an expired root',
    updates: [build({ roots: [rootText(2, keys.root, keys.online, now - HOUR)] })],
    code: 'CONFIG_EXPIRED',
  },
  {
    name: 'a thief’s number 2^52, then a root without his key',
    updates: [build({ generation: 2 ** 52 }), build({ roots: [root2], online: keys.newOnline, generation: 6 })],
  },
  {
    name: 'a timestamp that is no JSON',
    updates: [build({ tamper: { timestamp: () => '{' } })],
    code: 'CONFIG_MALFORMED',
  },
];

for (const { name, updates, code } of CASES) {
  t.test(name, async (t) => {
    const verdict = ours(updates);
    const oracle = await theirs(t.testdir(), updates);
    t.equal(verdict?.code, code, `ours: ${verdict?.message ?? 'accepted'}`);
    t.equal(oracle === undefined, code === undefined, `tuf-js: ${oracle?.message ?? 'accepted'}`);
  });
}

t.test('what tuf-js cannot see: the objects under the heads, and two statements of one number', async (t) => {
  const good = build({});
  const other = build({ objects: { mesh: { trustDomain: 'evil.test', minCapability: 1 } } });
  t.equal(ours([{ ...good, content: other.content }])?.code, 'CONFIG_ROOT_MISMATCH');
  t.equal(
    ours([good, build({ timestampVersion: 9, objects: { mesh: { trustDomain: 'x', minCapability: 1 } } })])?.code,
    'CONFIG_EQUIVOCATION',
  );
  t.equal(ours([good, other])?.code, 'CONFIG_EQUIVOCATION');
  t.equal(
    ours([build({ objects: { mesh: { trustDomain: 'mesh.test', minCapability: 99 } } })])?.code,
    'CONFIG_NEEDS_UPGRADE',
  );
  t.equal(ours([good, { format: 1, roots: [], timestamp: build({ generation: 6 }).timestamp }])?.code, 'CONFIG_MIX');
  t.equal(ours([{ format: 1, roots: [], timestamp: good.timestamp }])?.code, 'CONFIG_INCOMPLETE');
  t.equal(ours([{ ...good, heads: {} }])?.code, 'CONFIG_INCOMPLETE');
});

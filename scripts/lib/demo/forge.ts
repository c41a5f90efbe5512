/**
 * What somebody who took a controller's place, but not its signing keys, can make of signed config. In: a full update as a controller gave
 * it. Out: one that says something else, whole in every hash and version, with the old signatures. Pure. For the story and for tests only.
 */
import { canonicalJson, sha256Hex } from '../../../api/signed-config/canonical.ts';
import { applyDelta, emptyContent, headOf } from '../../../api/signed-config/content.ts';
import { encodeHead } from '../../../api/signed-config/layout.ts';
import { encodeUpdate, parseUpdate } from '../../../api/signed-config/update.ts';

/** A metadata file, as far as it is changed. */
interface Metadata {
  readonly signed: {
    version: number;
    meta?: Record<string, File & { version: number }>;
    targets?: Record<string, File>;
  };
  readonly signatures: unknown;
}

interface File {
  length: number;
  hashes: { sha256: string };
}

const fileOf = (text: string): File => ({ length: Buffer.byteLength(text), hashes: { sha256: sha256Hex(text) } });

/** `update` (a full one) with the object at `key` of policy put through `change`, as if it were the next generation. Throws on an update that lacks a part. */
export function forgeObject(update: string, key: string, change: (object: unknown) => unknown): string {
  const parsed = parseUpdate(update);
  const { policy, snapshot, timestamp, content } = parsed;
  const before = content?.policy;
  if (policy === undefined || snapshot === undefined || timestamp === undefined || before?.kind !== 'full')
    throw new Error('not a full update');
  if (before.set[key] === undefined) throw new Error(`the update has no ${key}`);
  const set = { ...before.set, [key]: change(JSON.parse(canonicalJson(before.set[key]))) };
  const next = (JSON.parse(snapshot) as Metadata).signed.version + 1;
  const head = encodeHead(headOf(applyDelta('policy', emptyContent, { set, delete: [] }), next));
  const policyText = edited(policy, (signed) => {
    signed.version = next;
    signed.targets = { policy: fileOf(head) };
  });
  const snapshotText = edited(snapshot, (signed) => {
    signed.version = next;
    signed.meta = { ...signed.meta, 'policy.json': { version: next, ...fileOf(policyText) } };
  });
  const timestampText = edited(timestamp, (signed) => {
    signed.version += 1;
    signed.meta = { 'snapshot.json': { version: next, ...fileOf(snapshotText) } };
  });
  return encodeUpdate({
    ...parsed,
    policy: policyText,
    snapshot: snapshotText,
    timestamp: timestampText,
    heads: { ...parsed.heads, policy: head },
    content: { ...content, policy: { ...before, set } },
  });
}

function edited(text: string, change: (signed: Metadata['signed']) => void): string {
  const metadata = JSON.parse(text) as Metadata;
  change(metadata.signed);
  return JSON.stringify(metadata);
}

/**
 * Where records of others come in, by gossip or anti-entropy. In: envelopes and the link that brought them. Out: rows of the table, or a
 * counted refusal. Must never: merge what was not verified, or spend more on a link or a signer than its budget.
 */
import { openEnvelope, verifyEnvelope } from '../../api/gossip/envelope.ts';
import type { HostRecord } from '../../api/gossip/host-record.ts';
import { compareRecords } from '../../api/gossip/record-codec.ts';
import { createBuckets } from './budget.ts';
import type { EndpointTable } from './endpoint-table.ts';
import { type DropReason, HOSTILE, type Trust, type VerifiedRecord } from './trust.ts';

/** What became of a record. `merged` is worth forwarding; `parked` waits for config that may admit it. */
export type IntakeResult = 'merged' | 'known' | 'equivocation' | 'own' | 'budget' | DropReason;

export interface Intake {
  /** `now` undefined: a record from the own file, whose certificate is not judged by the clock. */
  take(bytes: Uint8Array, now: number | undefined, metered: boolean): IntakeResult;
  /** Config changed: what waited is judged again. */
  retry(now: number): void;
  readonly parked: number;
}

/** A host changes its record at most this often in good order; more is not taken nor forwarded, anti-entropy brings the last one. */
const SIGNER_RATE = { perSecond: 2, burst: 10 };
const MAX_PARKED = 256;
/** Config that is on its way may turn these into admissions. */
const MAY_CHANGE: ReadonlySet<DropReason> = new Set(['no-grant', 'epoch', 'group-not-granted', 'certificate']);

export interface IntakeDeps {
  readonly ownHost: string;
  readonly trust: Trust;
  readonly table: EndpointTable;
  readonly monotonic: () => number;
  /** The table has a new row or a newer record. */
  onMerged(verified: VerifiedRecord): void;
  /** Someone holds an own record that this host did not make, or made before it lost its counter. */
  onOwn(verified: VerifiedRecord): void;
  count(result: IntakeResult): void;
  /** A record that `host` signed was not taken. */
  onRefused(host: string, reason: IntakeResult, detail: string): void;
}

export function createIntake(deps: IntakeDeps): Intake {
  const signers = createBuckets(SIGNER_RATE, deps.monotonic);
  const parked = new Map<string, Uint8Array>(); // by host: the newest refused one

  const judge = (bytes: Uint8Array, now: number | undefined, metered: boolean): IntakeResult => {
    if (isKnown(bytes, deps.table)) return 'known';
    const verified = deps.trust.record(bytes, now);
    if (typeof verified === 'string') {
      blame(bytes, verified);
      return verified;
    }
    const { record } = verified;
    if (record.host === deps.ownHost) {
      deps.onOwn(verified);
      return 'own';
    }
    const refusal = deps.trust.refuse(record, record.host);
    if (refusal !== undefined) {
      if (MAY_CHANGE.has(refusal)) park(record.host, verified.envelope.bytes);
      deps.onRefused(record.host, refusal, refusal === 'group-not-granted' ? groupsOf(record) : '');
      return refusal;
    }
    if (metered && !signers.take(record.host, 1)) {
      deps.onRefused(record.host, 'budget', '');
      return 'budget';
    }
    const result = deps.table.merge(verified);
    if (result === 'equivocation') {
      deps.onRefused(record.host, 'equivocation', `two records numbered ${record.epoch}.${record.counter}`);
      return 'equivocation';
    }
    if (result !== 'new' && result !== 'newer') return 'known';
    parked.delete(record.host);
    deps.onMerged(verified);
    return 'merged';
  };
  /** Names the signer of what has a good signature and yet is no good; forgeries are the fault of the link that brought them. */
  const blame = (bytes: Uint8Array, reason: DropReason) => {
    if (reason !== 'certificate' && reason !== 'content') return;
    const envelope = openEnvelope(bytes, 'record');
    const signer = deps.trust.signer(envelope.leaf, undefined);
    if (typeof signer !== 'string' && verifyEnvelope(envelope, signer.publicKey))
      deps.onRefused(signer.host, reason, '');
  };
  const groupsOf = ({ host, workloads }: HostRecord): string => {
    const granted = deps.trust.grants().hosts.get(host)?.workloadGroups ?? [];
    return workloads
      .map((w) => w.group)
      .filter((group) => !granted.includes(group))
      .join(', ');
  };
  const park = (host: string, bytes: Uint8Array) => {
    parked.delete(host);
    parked.set(host, bytes);
    if (parked.size > MAX_PARKED) parked.delete(parked.keys().next().value as string);
  };
  return {
    take(bytes, now, metered) {
      const result = judge(bytes, now, metered);
      deps.count(result);
      return result;
    },
    retry(now) {
      for (const [host, bytes] of [...parked]) {
        parked.delete(host);
        judge(bytes, now, false);
      }
    },
    get parked() {
      return parked.size;
    },
  };
}

/** True for what the peer that sent it is to be cut off for. */
export function isHostile(result: IntakeResult): boolean {
  return HOSTILE.has(result as DropReason);
}

/**
 * A look at the claimed version before the signature: most of what arrives twice is dropped for the price of parsing. A false claim gains
 * nothing: whatever is not known is verified.
 */
function isKnown(bytes: Uint8Array, table: EndpointTable): boolean {
  try {
    const { payload } = openEnvelope(bytes, 'record');
    const claim = JSON.parse(Buffer.from(payload).toString('utf8')) as { host: string; epoch: number; counter: number };
    const row = table.get(String(claim.host));
    if (row === undefined) return false;
    const order = compareRecords(claim, row.record);
    return order < 0 || (order === 0 && Buffer.compare(payload, row.envelope.payload) === 0);
  } catch {
    return false;
  }
}

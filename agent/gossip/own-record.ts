/**
 * The own host's record. In: what the host serves, its grant and SVID. Out: a signed record, only when something in it changed. Must never:
 * use a counter twice, or claim a WorkloadGroup that the grant does not name (others would drop the whole record).
 */
import type { KeyObject } from 'node:crypto';
import { sealEnvelope } from '../../api/gossip/envelope.ts';
import type { HostRecord, WorkloadRecord } from '../../api/gossip/host-record.ts';
import { encodeRecord } from '../../api/gossip/record-codec.ts';
import type { HostGrant } from '../../api/signed-config/desired-config.ts';
import { CAPABILITY } from '../../api/version.ts';
import type { Logger } from '../../runtime/log.ts';
import type { CounterFile } from './table-file.ts';
import { leafOf } from './tls-link.ts';
import type { VerifiedRecord } from './trust.ts';

/** What the composition root says of its host; the rest of the record is gossip's own. */
export interface OwnFields {
  readonly network: string;
  /** Addresses on which workloads are served, canonical text; at most 8. */
  readonly addresses: readonly string[];
  readonly workloads: readonly WorkloadRecord[];
  readonly leaving?: boolean;
}

export interface OwnRecordDeps {
  readonly host: string;
  readonly probeKey: string;
  readonly gossipAddresses: readonly string[];
  identity(): { readonly chainPem: string; readonly privateKey: KeyObject };
  grant(): HostGrant | undefined;
  readonly counter: CounterFile;
  /** Takes the new record into the own table and sends it out. */
  publish(verified: VerifiedRecord): Promise<void>;
  readonly log: Logger;
}

export interface OwnRecord {
  set(fields: OwnFields): Promise<void>;
  /** Something that the record depends on may have changed: grant, epoch, SVID. */
  reconsider(): Promise<void>;
  /** Publishes once more with a higher counter: to refute an accusation, or to get above a record that a neighbour holds. */
  renew(above: number): Promise<void>;
  current(): HostRecord | undefined;
  fields(): OwnFields | undefined;
}

export function createOwnRecord(deps: OwnRecordDeps): OwnRecord {
  let fields: OwnFields | undefined;
  let published: { content: string; record: HostRecord } | undefined;
  let queue: Promise<void> = Promise.resolve();
  let warned = '';

  const evaluate = async (force: boolean): Promise<void> => {
    const grant = deps.grant();
    if (fields === undefined) return;
    if (grant === undefined) return warn('own record not published: signed config has no grant for this host yet', []);
    const workloads = fields.workloads.filter((w) => grant.workloadGroups.includes(w.group));
    warn(
      'workloads left out of the own record: the host is not granted their WorkloadGroups',
      fields.workloads.filter((w) => !workloads.includes(w)).map((w) => w.group),
    );
    const { chainPem, privateKey } = deps.identity();
    const body = {
      epoch: grant.epoch,
      network: fields.network,
      addresses: fields.addresses,
      workloads,
      leaving: fields.leaving === true,
    };
    const content = JSON.stringify([body, chainPem]);
    if (!force && content === published?.content) return;
    const record: HostRecord = {
      host: deps.host,
      epoch: body.epoch,
      counter: await deps.counter.next(),
      capability: CAPABILITY,
      network: body.network,
      addresses: body.addresses,
      gossipAddresses: deps.gossipAddresses,
      probeKey: deps.probeKey,
      workloads,
      ...(body.leaving ? { leaving: true } : {}),
    };
    const envelope = sealEnvelope('record', encodeRecord(record), privateKey, leafOf(chainPem));
    published = { content, record };
    await deps.publish({ record, envelope, notAfter: Number.POSITIVE_INFINITY });
  };
  const warn = (message: string, groups: readonly string[]): void => {
    const key = groups.join(' ');
    const concerns = groups.length > 0 || message.startsWith('own');
    if (concerns && warned !== message + key) deps.log.warn(message, { groups });
    warned = concerns ? message + key : '';
  };
  /** One at a time and in order: each waits for its counter. */
  const run = (force: boolean): Promise<void> => {
    queue = queue
      .then(() => evaluate(force))
      .catch((error: unknown) => deps.log.error('own record not published', { error }));
    return queue;
  };
  return {
    set(next) {
      fields = next;
      return run(false);
    },
    reconsider: () => run(false),
    renew(above) {
      deps.counter.raise(above);
      return fields === undefined ? Promise.resolve() : run(true);
    },
    current: () => published?.record,
    fields: () => fields,
  };
}

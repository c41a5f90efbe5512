/**
 * Host records on the wire (DESIGN 3.7): JSON with fields in a fixed order, at most 8 KiB, inside a signed envelope. Unknown fields of a
 * newer agent stay in the bytes that are forwarded and are not interpreted. Everything here is pure; nothing trusts its input.
 */

import { MeshError } from '../errors.ts';
import { LABEL, SUBDOMAIN } from '../identity/spiffe-id.ts';
import type { HostGrant } from '../signed-config/desired-config.ts';
import { canonicalIp, parseEndpoint } from './address.ts';
import { MAX_PAYLOAD_BYTES } from './envelope.ts';
import type { HostRecord, WorkloadRecord } from './host-record.ts';

const GROUP = /^[-a-z0-9]{1,63}\/[-.a-z0-9]{1,253}$/;
const HEALTH: readonly WorkloadRecord['health'][] = ['healthy', 'unhealthy', 'draining'];
const MAX_ADDRESSES = 8;
/** As many workloads as agent.yaml may bind. */
const MAX_WORKLOADS = 100;
/** Counters grow by one; this many leave room for 2^20 a second for 100 years, and "from the future" has an end. */
const MAX_COUNTER = 2 ** 52;

/** Encodes a record for signing. Throws RECORD_INVALID or RECORD_TOO_LARGE: an own record that others would drop is not published. */
export function encodeRecord(record: HostRecord): Uint8Array {
  const bytes = Buffer.from(
    JSON.stringify({
      host: record.host,
      epoch: record.epoch,
      counter: record.counter,
      capability: record.capability,
      network: record.network,
      addresses: record.addresses,
      gossipAddresses: record.gossipAddresses,
      probeKey: record.probeKey,
      workloads: record.workloads.map(({ group, health, weight }) => ({ group, health, weight })),
      ...(record.leaving === true ? { leaving: true } : {}),
    }),
  );
  decodeRecord(bytes);
  return bytes;
}

/** Decodes and checks a record (untrusted). Throws RECORD_TOO_LARGE before parsing, RECORD_INVALID naming the field. */
export function decodeRecord(bytes: Uint8Array): HostRecord {
  if (bytes.length > MAX_PAYLOAD_BYTES) {
    throw new MeshError(
      'RECORD_TOO_LARGE',
      `a host record has at most ${MAX_PAYLOAD_BYTES} bytes, not ${bytes.length}`,
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new MeshError('RECORD_INVALID', 'a host record is not JSON', { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad('record');
  const r = value as Record<string, unknown>;
  const leaving = r.leaving === undefined ? undefined : r.leaving === true ? true : fail('leaving');
  return {
    host: text(r.host, 'host', LABEL),
    epoch: whole(r.epoch, 'epoch', MAX_COUNTER),
    counter: whole(r.counter, 'counter', MAX_COUNTER),
    capability: whole(r.capability, 'capability', 2 ** 31),
    network: text(r.network, 'network', SUBDOMAIN),
    addresses: list(r.addresses, 'addresses', MAX_ADDRESSES).map((a) => address(a)),
    gossipAddresses: list(r.gossipAddresses, 'gossipAddresses', MAX_ADDRESSES).map((a) => endpoint(a)),
    probeKey: probeKey(r.probeKey),
    workloads: workloads(r.workloads),
    ...(leaving === undefined ? {} : { leaving }),
  };
}

/** Order of two records of one host: positive when `a` is newer. (epoch, counter); no clock. */
export function compareRecords(
  a: Pick<HostRecord, 'epoch' | 'counter'>,
  b: Pick<HostRecord, 'epoch' | 'counter'>,
): number {
  return a.epoch - b.epoch || a.counter - b.counter;
}

/** Why a record is not let in, whatever its signature. Metric label values: a closed list. */
export type RefusalReason = 'no-grant' | 'revoked' | 'epoch' | 'group-not-granted' | 'signer' | 'address';

/** What signed config lets a host claim (DESIGN 3.7). `grant` is the host's, undefined where it has none. Undefined: admitted. */
export function refuseRecord(
  record: HostRecord,
  signedBy: string,
  trust: { readonly grant: HostGrant | undefined; readonly revoked: boolean; addressAllowed(address: string): boolean },
): RefusalReason | undefined {
  if (record.host !== signedBy) return 'signer';
  if (trust.revoked) return 'revoked';
  if (trust.grant === undefined) return 'no-grant';
  if (record.epoch !== trust.grant.epoch) return 'epoch';
  const granted = trust.grant.workloadGroups;
  if (!record.workloads.every((w) => granted.includes(w.group))) return 'group-not-granted';
  const claimed = [...record.addresses, ...record.gossipAddresses.map((e) => parseEndpoint(e)?.address ?? '')];
  return claimed.every((a) => trust.addressAllowed(a)) ? undefined : 'address';
}

function workloads(value: unknown): WorkloadRecord[] {
  const seen = new Set<string>();
  return list(value, 'workloads', MAX_WORKLOADS).map((item) => {
    if (typeof item !== 'object' || item === null) throw bad('workloads');
    const w = item as Record<string, unknown>;
    const group = text(w.group, 'workloads.group', GROUP);
    if (seen.has(group)) throw bad('workloads.group');
    seen.add(group);
    const health = HEALTH.find((h) => h === w.health) ?? fail('workloads.health');
    if (w.weight === undefined) return { group, health };
    const weight = whole(w.weight, 'workloads.weight', 1000);
    return { group, health, weight: weight >= 1 ? weight : fail('workloads.weight') };
  });
}

function text(value: unknown, field: string, pattern: RegExp): string {
  return typeof value === 'string' && value.length <= 320 && pattern.test(value) ? value : fail(field);
}

function whole(value: unknown, field: string, max: number): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= max ? value : fail(field);
}

function list(value: unknown, field: string, max: number): unknown[] {
  return Array.isArray(value) && value.length <= max ? value : fail(field);
}

/** Canonical text only, so that two spellings of one address cannot stand for two. */
function address(value: unknown): string {
  return typeof value === 'string' && value.length <= 45 && canonicalIp(value) === value ? value : fail('addresses');
}

function endpoint(value: unknown): string {
  return typeof value === 'string' && value.length <= 60 && parseEndpoint(value) !== undefined
    ? value
    : fail('gossipAddresses');
}

function probeKey(value: unknown): string {
  if (typeof value !== 'string' || value.length !== 44) throw bad('probeKey');
  const bytes = Buffer.from(value, 'base64');
  return bytes.length === 32 && bytes.toString('base64') === value ? value : fail('probeKey');
}

function fail(field: string): never {
  throw bad(field);
}

function bad(field: string): MeshError {
  return new MeshError('RECORD_INVALID', `host record: ${field} is missing or out of bounds`, { details: { field } });
}

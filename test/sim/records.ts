/**
 * Records without cryptography: envelopes of real layout and size whose signature is not checked. What stands for the certificate begins with
 * the number of the record, so that all hosts of a simulation share one decoded object.
 */
import type { Trust, VerifiedRecord } from '../../agent/gossip/trust.ts';
import { type EnvelopeKind, openEnvelope } from '../../api/gossip/envelope.ts';
import type { HostRecord } from '../../api/gossip/host-record.ts';
import { encodeRecord } from '../../api/gossip/record-codec.ts';
import type { HostGrant } from '../../api/signed-config/desired-config.ts';

/** A usual host SVID. */
const LEAF_BYTES = 560;

export interface Records {
  make(record: HostRecord): VerifiedRecord;
  /** An accusation in the name of host number `accuser`. */
  accusation(payload: Uint8Array, accuser: number): Uint8Array;
  /** Of an envelope of `make`. */
  numberOf(envelope: Uint8Array): number;
  readonly trust: Trust;
}

export function createRecords(names: readonly string[], grants: ReadonlyMap<string, HostGrant>): Records {
  const all: VerifiedRecord[] = [];
  const seal = (kind: 0 | 1, payload: Uint8Array, number: number): Buffer => {
    const bytes = Buffer.alloc(4 + payload.length + 64 + 2 + LEAF_BYTES);
    bytes.writeUInt8(1, 0);
    bytes.writeUInt8(kind, 1);
    bytes.writeUInt16BE(payload.length, 2);
    bytes.set(payload, 4);
    bytes.writeUInt16BE(LEAF_BYTES, 4 + payload.length + 64);
    bytes.writeUInt32BE(number, bytes.length - LEAF_BYTES);
    return bytes;
  };
  const numberOf = (bytes: Uint8Array) =>
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).readUInt32BE(bytes.length - LEAF_BYTES);
  const config = { hosts: grants, revokedHosts: new Set<string>(), intermediates: [] };
  const trust: Trust = {
    update() {},
    signer: () => 'certificate',
    open(bytes: Uint8Array, kind: EnvelopeKind) {
      const host = names[numberOf(bytes)] as string;
      const signer = { host, publicKey: undefined as never, notAfter: Number.MAX_SAFE_INTEGER };
      return { signer, envelope: openEnvelope(bytes, kind) };
    },
    record: (bytes) => all[numberOf(bytes)] as VerifiedRecord,
    refuse: () => undefined,
    isMember: () => true,
    grants: () => config,
  };
  return {
    make(record) {
      const bytes = seal(0, encodeRecord(record), all.length);
      const verified = { record, envelope: openEnvelope(bytes, 'record'), notAfter: Number.MAX_SAFE_INTEGER };
      all.push(verified);
      return verified;
    },
    accusation: (payload, accuser) => seal(1, payload, accuser),
    numberOf,
    trust,
  };
}

/** As an agent of one address and one workload publishes it. */
export function recordOf(host: string, address: string, counter: number): HostRecord {
  return {
    host,
    epoch: 1,
    counter,
    capability: 1,
    network: 'default',
    addresses: [address],
    gossipAddresses: [`${address}:15300`],
    probeKey: Buffer.alloc(32, host).toString('base64'),
    workloads: [{ group: 'default/web', health: 'healthy' }],
  };
}

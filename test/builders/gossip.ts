import type { VerifiedRecord } from '../../agent/gossip/trust.ts';
import { type Envelope, sealEnvelope } from '../../api/gossip/envelope.ts';
import type { HostRecord } from '../../api/gossip/host-record.ts';
import { encodeRecord } from '../../api/gossip/record-codec.ts';
import type { TestIdentity } from './test-ca.ts';

/** A valid record of `host`; its address follows from the digits in its name. */
export function record(host: string, change: Partial<HostRecord> = {}): HostRecord {
  const n = Number(host.replace(/\D/g, '') || 0) % 250;
  return {
    host,
    epoch: 1,
    counter: 1,
    capability: 1,
    network: 'default',
    addresses: [`10.0.0.${n}`],
    gossipAddresses: [`10.0.0.${n}:15300`],
    probeKey: Buffer.alloc(32, n + 1).toString('base64'),
    workloads: [],
    ...change,
  };
}

/** Signed by `identity`, whatever it says. */
export function sealed(identity: TestIdentity, value: HostRecord): Envelope {
  return sealEnvelope('record', encodeRecord(value), identity.privateKey, identity.leaf.raw);
}

/** For tests of what comes after verification: the signature is left out. */
export function verified(value: HostRecord): VerifiedRecord {
  const payload = encodeRecord(value);
  const empty = new Uint8Array();
  return {
    record: value,
    envelope: { kind: 'record', payload, signature: empty, leaf: empty, bytes: payload },
    notAfter: Number.MAX_SAFE_INTEGER,
  };
}

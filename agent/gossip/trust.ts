/**
 * Who may say what in gossip. In: envelopes of anyone, the verified config's grants and intermediates. Out: a signer's host id and key,
 * or the reason for refusal. Must never take a name from anything but a certificate that a listed intermediate issued.
 */
import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import { hasCode } from '../../api/errors.ts';
import { type Envelope, type EnvelopeKind, openEnvelope, verifyEnvelope } from '../../api/gossip/envelope.ts';
import type { HostRecord } from '../../api/gossip/host-record.ts';
import { decodeRecord, type RefusalReason, refuseRecord } from '../../api/gossip/record-codec.ts';
import { verifySvid } from '../../api/identity/x509.ts';
import type { HostGrant } from '../../api/signed-config/desired-config.ts';

/** What gossip takes from verified config. */
export interface Grants {
  readonly hosts: ReadonlyMap<string, HostGrant>;
  readonly revokedHosts: ReadonlySet<string>;
  /** PEM of the intermediates that signed config lists: the only issuers trusted. */
  readonly intermediates: readonly string[];
}

/** Why an envelope or a record is dropped; metric label values, a closed list. */
export type DropReason =
  | RefusalReason
  | 'malformed'
  | 'version'
  | 'content'
  | 'certificate'
  | 'signature'
  | 'not-a-host';

/**
 * Reasons that an honest forwarder of any version would have noticed: the link that delivers one is closed. The others follow from config
 * lag, or are the fault of the signer (content, version).
 */
export const HOSTILE: ReadonlySet<DropReason> = new Set(['malformed', 'signature', 'signer', 'not-a-host']);

export interface Signer {
  readonly host: string;
  readonly publicKey: KeyObject;
  readonly notAfter: number;
}

/** A record with its signed bytes, verified. */
export interface VerifiedRecord {
  readonly record: HostRecord;
  readonly envelope: Envelope;
  /** End of the signer's certificate, ms since the epoch: the record is not taken from others after it. */
  readonly notAfter: number;
}

export interface Trust {
  /** Replaces config; certificates are judged anew. */
  update(grants: Grants): void;
  /** The host that a leaf certificate (DER, or from a TLS peer) names, or why not. `now` undefined: times are not looked at (own files). */
  signer(leaf: Uint8Array, now: number | undefined): Signer | DropReason;
  /** Opens, checks the certificate and the signature. */
  open(
    bytes: Uint8Array,
    kind: EnvelopeKind,
    now: number | undefined,
  ): { signer: Signer; envelope: Envelope } | DropReason;
  /** `open` and the record inside, without asking config whether it may be in. */
  record(bytes: Uint8Array, now: number | undefined): VerifiedRecord | DropReason;
  /** Whether config lets the record in. */
  refuse(record: HostRecord, signedBy: string): RefusalReason | undefined;
  /** A host that may be linked: granted and not revoked. */
  isMember(host: string): boolean;
  grants(): Grants;
}

const MAX_CACHED_LEAVES = 4096;
/** A certificate that is not valid yet is taken this much early: a host whose clock is a day behind still hears those that renewed today. */
const EARLY_MS = 25 * 3_600_000;

export function createTrust(deps: {
  readonly trustDomain: string;
  readonly grants: Grants;
  addressAllowed(address: string): boolean;
}): Trust {
  let grants = deps.grants;
  let trusted = parse(grants.intermediates);
  /** By SHA-256 of the leaf: chain checks cost 0.2 ms, a look-up 0.01 ms. Oldest out first. */
  const leaves = new Map<string, Signer & { readonly notBefore: number }>();

  const signer: Trust['signer'] = (leaf, now) => {
    const print = createHash('sha256').update(leaf).digest('base64');
    let known = leaves.get(print);
    if (known === undefined) {
      const read = readLeaf(leaf, trusted, deps.trustDomain, now);
      if (typeof read === 'string') return read;
      known = read;
      if (leaves.size >= MAX_CACHED_LEAVES) leaves.delete(leaves.keys().next().value as string);
      leaves.set(print, known);
    }
    return now !== undefined && (now < known.notBefore - EARLY_MS || now > known.notAfter) ? 'certificate' : known;
  };
  const open: Trust['open'] = (bytes, kind, now) => {
    let envelope: Envelope;
    try {
      envelope = openEnvelope(bytes, kind);
    } catch (error) {
      return hasCode(error, 'ENVELOPE_VERSION') ? 'version' : 'malformed';
    }
    const who = signer(envelope.leaf, now);
    if (typeof who === 'string') return who;
    return verifyEnvelope(envelope, who.publicKey) ? { signer: who, envelope } : 'signature';
  };
  const refuse: Trust['refuse'] = (record, signedBy) =>
    refuseRecord(record, signedBy, {
      grant: grants.hosts.get(record.host),
      revoked: grants.revokedHosts.has(record.host),
      addressAllowed: deps.addressAllowed,
    });
  return {
    update(next) {
      grants = next;
      trusted = parse(next.intermediates);
      leaves.clear();
    },
    signer,
    open,
    record(bytes, now) {
      const opened = open(bytes, 'record', now);
      if (typeof opened === 'string') return opened;
      try {
        const record = decodeRecord(opened.envelope.payload);
        if (record.host !== opened.signer.host) return 'signer';
        return { record, envelope: opened.envelope, notAfter: opened.signer.notAfter };
      } catch {
        return 'content';
      }
    },
    refuse,
    isMember: (host) => grants.hosts.has(host) && !grants.revokedHosts.has(host),
    grants: () => grants,
  };
}

function parse(pems: readonly string[]): X509Certificate[] {
  return pems.map((pem) => new X509Certificate(pem));
}

/**
 * With `now` undefined the certificate is judged at the moment from which both it and its issuer were valid: a record that was verified when it came in is used at boot
 * whatever the clock says (DESIGN 3.9).
 */
function readLeaf(
  der: Uint8Array,
  trusted: readonly X509Certificate[],
  trustDomain: string,
  now: number | undefined,
): (Signer & { notBefore: number }) | DropReason {
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(der);
  } catch {
    return 'malformed';
  }
  const notBefore = leaf.validFromDate.getTime();
  try {
    const issuers = trusted.filter((ca) => leaf.checkIssued(ca)).map((ca) => ca.validFromDate.getTime());
    const begin = Math.max(notBefore, ...issuers);
    const times =
      now === undefined
        ? { now: begin, expiryGraceMs: Number.POSITIVE_INFINITY }
        : { now: Math.max(now, Math.min(begin, now + EARLY_MS)) };
    const svid = verifySvid(leaf, { trusted, trustDomain, ...times });
    if (svid.id.kind !== 'host') return 'not-a-host';
    return { host: svid.id.hostId, publicKey: svid.publicKey, notAfter: svid.notAfter, notBefore };
  } catch (error) {
    return hasCode(error, 'DER_INVALID') || hasCode(error, 'SPIFFE_ID_INVALID') ? 'malformed' : 'certificate';
  }
}

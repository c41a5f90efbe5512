/**
 * Who may be linked and who stays in the table. In: leaf certificates, verified config, the clock. Out: a signer or a refusal, links to
 * close, hosts to drop. Must never: empty the table because the own clock is wrong.
 */
import { MeshError } from '../../api/errors.ts';
import { createBuckets } from './budget.ts';
import type { EndpointTable, TableRow } from './endpoint-table.ts';
import type { Link } from './node.ts';
import { OVERLAY_DEFAULTS } from './overlay.ts';
import type { Signer, Trust } from './trust.ts';

/**
 * A handshake costs some 8 ms of CPU, whoever asks for it: more than this waits. A mass restart of hosts behind one
 * address fits the burst. What one address leaves open and silent (5 s) is a small part of what node.ts takes.
 */
const HANDSHAKES_OF_ADDRESS = { perSecond: 10, burst: 100 };
const HANDSHAKES = { perSecond: 40, burst: 400 };
/** A full host makes room for a newcomer this often, for one host once a minute: who dials without end pushes nobody out. */
const ROOM = { perSecond: 1, burst: 4 };
const ROOM_OF_HOST = { perSecond: 1 / 60, burst: 2 };
/** An inbound link this old has compared its table: its host knows others to dial. */
const SETTLED_MS = 10_000;

export interface AdmissionDeps {
  readonly host: string;
  readonly trust: Trust;
  readonly table: EndpointTable;
  links(): readonly Link[];
  /** The own host SVID, DER. */
  ownLeaf(): Uint8Array;
  closeLink(host: string, reason: string): void;
  /** A host that may not be linked, named by its certificate. */
  onRefused(host: string, reason: string): void;
  readonly now: () => number;
  readonly monotonic: () => number;
  readonly random: () => number;
}

export interface Admission {
  /** Judges the peer of a TLS handshake. Throws LINK_REFUSED, LINK_NOT_MEMBER, LINK_BANNED. */
  admit(leaf: Uint8Array): Signer;
  /** Before any cryptography: false refuses a connection from `address`. */
  mayHandshake(address: string): boolean;
  /** True when `host` may have one more link; closes another host's if that is what it takes. */
  makeRoom(host: string): boolean;
  /** Refuses handshakes of the host for `ms`: a link of it was closed for what it delivered. */
  ban(host: string, ms: number): void;
  /** Closes links of hosts that are members no more, or whose certificate has ended. */
  checkLinks(): void;
  /** Whether a row of the table stays. A certificate that ended takes its host out, unless the own clock is in doubt. */
  keeps(row: TableRow): boolean;
  /** True when a row's certificate has ended since: cheap, asked every few seconds. */
  anyExpired(): boolean;
}

export function createAdmission(deps: AdmissionDeps): Admission {
  const { trust } = deps;
  const bans = new Map<string, number>();
  const ofAddress = createBuckets(HANDSHAKES_OF_ADDRESS, deps.monotonic);
  const handshakes = createBuckets(HANDSHAKES, deps.monotonic);
  const rooms = createBuckets(ROOM, deps.monotonic);
  const roomsOfHost = createBuckets(ROOM_OF_HOST, deps.monotonic);

  /** By a clock by which the own SVID is not valid, nobody else's certificate is judged to have ended. */
  const clockInDoubt = () => typeof trust.signer(deps.ownLeaf(), deps.now()) === 'string';
  const ended = (row: TableRow) => row.record.host !== deps.host && deps.now() > row.notAfter;
  return {
    admit(leaf) {
      const signer = trust.signer(leaf, deps.now());
      if (typeof signer === 'string') {
        // Named where a listed intermediate issued it and only its time is wrong; TLS has shown that the key is there.
        const named = trust.signer(leaf, undefined);
        if (typeof named !== 'string') deps.onRefused(named.host, signer);
        throw new MeshError('LINK_REFUSED', `the peer's host SVID is refused: ${signer}`);
      }
      if (!trust.isMember(signer.host)) {
        deps.onRefused(signer.host, 'not-a-member');
        throw new MeshError('LINK_NOT_MEMBER', `${signer.host} is not granted or is revoked`);
      }
      const until = bans.get(signer.host);
      if (until !== undefined && deps.monotonic() < until)
        throw new MeshError('LINK_BANNED', `${signer.host} was cut off a moment ago`);
      bans.delete(signer.host);
      return signer;
    },
    mayHandshake: (address) => ofAddress.take(address, 1) && handshakes.take('', 1),
    makeRoom(host) {
      const links = deps.links();
      if (links.length < OVERLAY_DEFAULTS.refuseLinks) return true;
      const spare = links.filter((l) => l.direction === 'inbound' && l.ageMs >= SETTLED_MS && l.host !== host);
      const victim = spare[Math.floor(deps.random() * spare.length)];
      if (victim === undefined || !roomsOfHost.take(host, 1) || !rooms.take('', 1)) return false;
      deps.closeLink(victim.host, 'room');
      return true;
    },
    ban(host, ms) {
      bans.set(host, deps.monotonic() + ms);
    },
    checkLinks() {
      for (const { host, leaf } of deps.links()) {
        const signer = trust.signer(leaf, deps.now());
        if (typeof signer === 'string' || !trust.isMember(host)) deps.closeLink(host, 'not-admitted');
      }
    },
    keeps(row) {
      const { record, envelope } = row;
      if (record.host === deps.host) return true;
      if (trust.refuse(record, record.host) !== undefined) return false;
      if (typeof trust.signer(envelope.leaf, undefined) === 'string') return false;
      return !ended(row) || (row.liveness !== 'dead' && row.liveness !== 'left' && clockInDoubt());
    },
    anyExpired() {
      for (const row of deps.table.rows()) if (ended(row)) return !clockInDoubt();
      return false;
    },
  };
}

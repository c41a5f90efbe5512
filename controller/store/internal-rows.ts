/**
 * What the controller keeps beside the operators' objects: one row a host (its grant) and one a join token. Keys start with
 * `_internal/`, which no object key does. Values are JSON.
 */
import type { HostGrant } from '../../api/signed-config/desired-config.ts';

export const HOST_PREFIX = '_internal/hosts/';
export const TOKEN_PREFIX = '_internal/tokens/';

/** The grant of one host as signed config's `state` carries it, and what the CA needs to renew its SVID. */
export interface HostRow extends HostGrant {
  /** When the host enrolled last (RFC 3339); absent in rows of versions that did not note it. */
  readonly enrolledAt?: string;
  /** When an operator revoked the host (RFC 3339); absent while it is a member. */
  readonly revokedAt?: string;
  /** SHA-256 (hex) of the host's public key (SPKI DER): an expired SVID renews by proof of the same key only. Absent before enrolment. */
  readonly hostKey?: string;
  /** Serial numbers of the last two host SVIDs, newest last: an older one shows a clone (DESIGN 3.4). */
  readonly serials?: readonly string[];
}

/** One join token; the secret is kept as its SHA-256 only. */
export interface TokenRow {
  readonly id: string;
  readonly secretHash: string;
  readonly host: string;
  readonly workloadGroups: readonly string[];
  /** RFC 3339. */
  readonly expiresAt: string;
  readonly spentAt?: string;
}

export const hostKeyOf = (host: string): string => `${HOST_PREFIX}${host}`;
export const tokenKeyOf = (id: string): string => `${TOKEN_PREFIX}${id}`;

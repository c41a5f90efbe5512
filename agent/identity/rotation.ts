const DAY_MS = 86_400_000;
/** An SVID that ends sooner than this is alarmed (DESIGN 3.4). */
export const ALARM_MS = 5 * DAY_MS;

export interface Validity {
  /** When this host received it, ms. */
  readonly issuedAt: number;
  readonly notAfter: number;
}

/**
 * When to renew: a day after issue, or after a third of a life shorter than three days, with 10 % jitter so that a mesh restarted at once
 * does not renew at once. `random` in [0,1). Pure; ms since the epoch.
 */
export function renewAt(validity: Validity, random: () => number): number {
  const life = Math.max(0, validity.notAfter - validity.issuedAt);
  return validity.issuedAt + Math.min(DAY_MS, life / 3) * (0.9 + random() / 5);
}

/** One line for `problems`, or undefined while all is well. A life shorter than twice the alarm is judged by its last fifth. */
export function expiryProblem(what: string, validity: Validity, now: number): string | undefined {
  const left = validity.notAfter - now;
  if (left <= 0) return `${what} expired at ${new Date(validity.notAfter).toISOString()}; no controller renewed it`;
  if (left < Math.min(ALARM_MS, (validity.notAfter - validity.issuedAt) / 5)) {
    return `${what} ends in ${Math.ceil(left / 3_600_000)} h at ${new Date(validity.notAfter).toISOString()} and was not renewed; is a controller reachable?`;
  }
  return undefined;
}

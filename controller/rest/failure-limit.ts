/** Counts failed attempts to authenticate, per client address: bounds what guessing costs us in log lines and work. */
export interface FailureLimit {
  /** Counts one failure; true when the address failed too often of late. `now` in ms, monotonic. */
  failed(address: string, now: number): boolean;
}

const MAX_ADDRESSES = 10_000;

/** A bucket an address: `burst` failures at once, `perSecond` from then on. The address that failed longest ago is forgotten first. */
export function createFailureLimit(options: { readonly perSecond: number; readonly burst: number }): FailureLimit {
  const buckets = new Map<string, { left: number; at: number }>();
  return {
    failed(address, now) {
      const { left, at } = buckets.get(address) ?? { left: options.burst, at: now };
      const refilled = Math.min(options.burst, left + ((now - at) / 1000) * options.perSecond);
      buckets.delete(address);
      buckets.set(address, { left: Math.max(0, refilled - 1), at: now });
      if (buckets.size > MAX_ADDRESSES) buckets.delete(buckets.keys().next().value as string);
      return refilled < 1;
    },
  };
}

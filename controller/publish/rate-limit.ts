/** A token bucket per key and one for all keys together, for unauthenticated requests (DESIGN findings: 5/s an address, 50/s in all). */
export interface RateLimit {
  /** True when one more request of `key` at `now` (ms, monotonic) is within bounds; counts it. */
  take(key: string, now: number): boolean;
}

/** `perSecond` of each key with a burst of twice as many; at most 10,000 keys are remembered, the oldest forgotten first. */
export function createRateLimit(options: { readonly perSecond: number; readonly totalPerSecond: number }): RateLimit {
  const buckets = new Map<string, { tokens: number; at: number }>();
  const all = { tokens: options.totalPerSecond * 2, at: 0 };
  return {
    take(key, now) {
      const own = buckets.get(key) ?? { tokens: options.perSecond * 2, at: now };
      buckets.delete(key);
      buckets.set(key, own);
      if (buckets.size > 10_000) buckets.delete(buckets.keys().next().value as string);
      refill(own, options.perSecond, now);
      refill(all, options.totalPerSecond, now);
      if (own.tokens < 1 || all.tokens < 1) return false;
      own.tokens -= 1;
      all.tokens -= 1;
      return true;
    },
  };
}

function refill(bucket: { tokens: number; at: number }, perSecond: number, now: number): void {
  bucket.tokens = Math.min(perSecond * 2, bucket.tokens + ((now - bucket.at) / 1000) * perSecond);
  bucket.at = now;
}

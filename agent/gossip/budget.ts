/** A token bucket: how much a link or a signer may send. Full at the start. */
export interface Bucket {
  /** Takes `amount` if it is there; false leaves the bucket as it was. */
  take(amount: number): boolean;
}

export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

export function createBucket(rate: Rate, monotonic: () => number): Bucket {
  let level = rate.burst;
  let filledAt = monotonic();
  return {
    take(amount) {
      const now = monotonic();
      level = Math.min(rate.burst, level + ((now - filledAt) * rate.perSecond) / 1000);
      filledAt = now;
      if (amount > level) return false;
      level -= amount;
      return true;
    },
  };
}

/** Buckets by name (a host id). At most `max`; when full, the one unused longest goes, so memory is bounded by the mesh, not by a flood. */
export function createBuckets(
  rate: Rate,
  monotonic: () => number,
  max = 4096,
): { take(name: string, amount: number): boolean } {
  const buckets = new Map<string, Bucket>();
  return {
    take(name, amount) {
      const bucket = buckets.get(name) ?? createBucket(rate, monotonic);
      buckets.delete(name);
      buckets.set(name, bucket);
      if (buckets.size > max) buckets.delete(buckets.keys().next().value as string);
      return bucket.take(amount);
    },
  };
}

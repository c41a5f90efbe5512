/** Percentile of a sample by nearest rank; `p` in [0,1]. 0 for an empty one. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return round(sorted[Math.min(sorted.length - 1, Math.ceil(p * sorted.length) - 1)] ?? sorted[0] ?? 0);
}

export const median = (values: readonly number[]): number => percentile(values, 0.5);

/** Two decimals: more is noise here. */
export function round(value: number): number {
  return Math.round(value * 100) / 100;
}

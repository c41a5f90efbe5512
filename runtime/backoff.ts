/** Exponential back-off with full jitter: the n-th failure waits between half and all of min(maxMs, baseMs * 2^n). `random` in [0,1). */
export function backoffMs(
  failures: number,
  options: { readonly baseMs: number; readonly maxMs: number },
  random: () => number,
): number {
  const ceiling = Math.min(options.maxMs, options.baseMs * 2 ** Math.min(failures, 30));
  return ceiling * (0.5 + random() / 2);
}

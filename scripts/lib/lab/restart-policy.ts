/** How often a unit may die before it counts as failed; the figures of packaging/systemd (StartLimitBurst=, RestartSec=, RestartPreventExitStatus=). */
export interface RestartPolicy {
  readonly delayMs: number;
  readonly burst: number;
  readonly intervalMs: number;
  /** Exit statuses after which a restart would change nothing: a broken config, a wrong call. */
  readonly preventStatus: readonly number[];
}

/** What systemd would do after a unit's main process died. `deaths` are the monotonic times (ms) of its unasked-for deaths, this one last. */
export function afterDeath(
  policy: RestartPolicy,
  status: number | undefined,
  deaths: readonly number[],
): 'restart' | 'fail' {
  if (status !== undefined && policy.preventStatus.includes(status)) return 'fail';
  const now = deaths.at(-1) ?? 0;
  return deaths.filter((at) => now - at < policy.intervalMs).length > policy.burst ? 'fail' : 'restart';
}

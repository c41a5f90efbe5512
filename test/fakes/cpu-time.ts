/** CPU time that this process has used, ms: what a bound on work is measured by, as a busy machine's clock runs on without any. */
export function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

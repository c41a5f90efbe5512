/** Waits until `condition` is truthy and returns its value; polls the event loop, fails after `timeoutMs` with `what`. Never a fixed sleep. */
export async function until<T>(
  condition: () => T | Promise<T>,
  what = 'condition',
  timeoutMs = 20_000,
): Promise<NonNullable<T>> {
  const end = performance.now() + timeoutMs;
  for (let pause = 0; ; pause = Math.min(50, pause + 1)) {
    const value = await condition();
    if (value) return value as NonNullable<T>;
    if (performance.now() > end) throw new Error(`timed out after ${timeoutMs} ms waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

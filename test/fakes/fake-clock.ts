import type { Clock } from '../../runtime/clock.ts';

/** A clock that moves only when told to; `advance` runs due timers in order and lets promises settle between them. */
export interface FakeClock extends Clock {
  advance(ms: number): Promise<void>;
  set(now: number): void;
}

export function createFakeClock(start = Date.parse('2026-11-25T00:00:00Z')): FakeClock {
  let wall = start;
  let elapsed = 0;
  let id = 0;
  const timers = new Map<number, { at: number; fn: () => void }>();
  const settle = async () => {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  return {
    now: () => wall,
    monotonic: () => elapsed,
    after(ms, fn) {
      const key = id++;
      timers.set(key, { at: elapsed + ms, fn });
      return () => void timers.delete(key);
    },
    set(now) {
      wall = now;
    },
    async advance(ms) {
      const end = elapsed + ms;
      await settle();
      for (;;) {
        const next = [...timers].filter(([, timer]) => timer.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
        if (next === undefined) break;
        const [key, timer] = next;
        timers.delete(key);
        wall += Math.max(0, timer.at - elapsed);
        elapsed = Math.max(elapsed, timer.at);
        timer.fn();
        await settle();
      }
      wall += end - elapsed;
      elapsed = end;
      await settle();
    },
  };
}

/** Time of a simulation: a ring of milliseconds, each with what happens in it. Small numbers for the millions of messages, closures for the rest. */

const HORIZON = 1 << 15;

interface Slot {
  readonly messages: number[];
  readonly calls: (() => void)[];
}

export interface Schedule {
  /** Milliseconds since the start. */
  readonly now: number;
  /** Runs `call` at `time`, or now if that has passed. At most 32 s ahead. */
  at(time: number, call: () => void): void;
  /** Three numbers for `onMessage` at `time`. */
  message(time: number, a: number, b: number, c: number): void;
  /** Does what is to be done in this millisecond, then goes to the next one. */
  step(): void;
}

export function createSchedule(onMessage: (a: number, b: number, c: number) => void): Schedule {
  const ring: (Slot | undefined)[] = new Array<Slot | undefined>(HORIZON).fill(undefined);
  let now = 0;
  const slot = (time: number): Slot => {
    const at = Math.max(now, Math.ceil(time));
    if (at - now >= HORIZON) throw new RangeError(`${at - now} ms ahead`);
    const made = ring[at % HORIZON] ?? { messages: [], calls: [] };
    ring[at % HORIZON] = made;
    return made;
  };
  return {
    get now() {
      return now;
    },
    at: (time, call) => void slot(time).calls.push(call),
    message: (time, a, b, c) => void slot(time).messages.push(a, b, c),
    step() {
      const current = ring[now % HORIZON];
      if (current !== undefined) {
        const { messages, calls } = current;
        // Both grow while they are worked on: what is due now is done now.
        let m = 0;
        let c = 0;
        while (m < messages.length || c < calls.length) {
          for (; m < messages.length; m += 3)
            onMessage(messages[m] as number, messages[m + 1] as number, messages[m + 2] as number);
          for (; c < calls.length; c++) calls[c]?.();
        }
        ring[now % HORIZON] = undefined;
      }
      now += 1;
    },
  };
}

import type { Clock } from '../../runtime/clock.ts';

const COALESCE_MS = 10;

export interface ChangeNoticeDeps {
  /** What listeners would see, as a text: told only when it differs from the last. */
  state(): string;
  /** Before listeners are told. */
  before(): void;
  readonly clock: Pick<Clock, 'after'>;
}

export interface ChangeNotice {
  listen(listener: () => void): void;
  /** Something may be otherwise. */
  changed(): void;
  stop(): void;
}

/** Listeners are told once for all that happens within 10 ms. */
export function createChangeNotice(deps: ChangeNoticeDeps): ChangeNotice {
  const listeners: (() => void)[] = [];
  let told = '';
  let cancel: (() => void) | undefined;
  const tell = () => {
    cancel = undefined;
    deps.before();
    const state = deps.state();
    if (state === told) return;
    told = state;
    for (const listener of listeners) listener();
  };
  return {
    listen: (listener) => void listeners.push(listener),
    changed() {
      cancel ??= deps.clock.after(COALESCE_MS, tell);
    },
    stop: () => cancel?.(),
  };
}

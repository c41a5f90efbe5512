/**
 * `?watch=true`: changes of a collection as JSON lines (Kubernetes API concepts, "Efficient detection of changes"). In: an authorized call.
 * Out: an endless answer; events in the order of revisions, an ERROR event with a Status at the end when history does not reach back. It
 * must send its headers at once (informers wait for them) and never hold more than one batch for a slow reader.
 */
import { failure, type Status, type StatusDetails } from '../../api/http/status-errors.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Change, Changes, Store } from '../store/store.ts';
import { booleanOf, type Call, integerOf, type KindTarget } from './call.ts';
import { refuse, statusOf } from './errors.ts';
import { objectOf } from './objects.ts';
import { bookmark, type Shown, showObject } from './presentation.ts';
import { authorizeRead, shownOf } from './reads.ts';
import { type Matcher, selectorOf } from './selectors.ts';
import { prefixOf } from './target.ts';

export interface WatchDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Where lines go: resolves when the reader can take more, rejects when it is gone. */
export type SendLine = (line: string) => Promise<void>;

export interface Watch {
  /** Runs until `signal` aborts, its time is over, or an ERROR event was sent. */
  run(send: SendLine, signal: AbortSignal): Promise<void>;
}

const DEFAULT_TIMEOUT_S = 1800;
const BOOKMARK_MS = 60_000;

/** Checks the request (StatusError before any header is sent) and prepares the watch. */
export function prepareWatch(deps: WatchDeps, call: Call, target: KindTarget): Watch {
  authorizeRead(call, 'watch', target);
  const { query } = call;
  const shown = shownOf(deps, call, target);
  const selected = selectorOf(query);
  const { name } = target;
  const matches: Matcher = (object) =>
    (name === undefined || object.metadata.name === name) && (selected?.(object) ?? true);
  const bookmarks = booleanOf(query, 'allowWatchBookmarks');
  const initial = booleanOf(query, 'sendInitialEvents');
  checkInitial(query, initial, bookmarks);
  const from = integerOf(query, 'resourceVersion') ?? 0;
  const timeoutMs = (integerOf(query, 'timeoutSeconds') || DEFAULT_TIMEOUT_S) * 1000;
  return {
    async run(send, signal) {
      const stream = new EventStream(send, shown, matches);
      const ended = new AbortController();
      const end = () => ended.abort();
      const cancelTimeout = deps.clock.after(Math.min(timeoutMs, 2 ** 31 - 1), end);
      signal.addEventListener('abort', end, { once: true });
      if (signal.aborted) end();
      try {
        await follow(deps, stream, { prefix: prefixOf(target), from, initial, bookmarks, signal: ended.signal });
        // The client may go on from here without a gap.
        if (bookmarks && !signal.aborted) await stream.bookmark(false);
      } catch (error) {
        if (!signal.aborted) await stream.error(error, deps.log);
      } finally {
        cancelTimeout();
        signal.removeEventListener('abort', end);
        end();
      }
    },
  };
}

interface Plan {
  readonly prefix: string;
  readonly from: number;
  readonly initial: boolean;
  readonly bookmarks: boolean;
  readonly signal: AbortSignal;
}

async function follow(deps: WatchDeps, stream: EventStream, plan: Plan): Promise<void> {
  let { from } = plan;
  if (plan.initial || from === 0) {
    // "Get state and start at any": the objects there are, then what changes.
    const page = await deps.store.list(plan.prefix);
    from = page.revision;
    for (const entry of page.entries) await stream.added(objectOf(entry));
    stream.revision = from;
    if (plan.initial) await stream.bookmark(true);
  }
  stream.revision = from;
  const stopBookmarks = plan.bookmarks ? every(deps.clock, BOOKMARK_MS, () => stream.bookmark(false)) : () => {};
  try {
    for await (const batch of deps.store.watch(plan.prefix, from, plan.signal)) await stream.batch(batch);
  } finally {
    stopBookmarks();
  }
}

function every(clock: Clock, ms: number, work: () => Promise<void>): () => void {
  let cancel = clock.after(ms, tick);
  function tick(): void {
    work().catch(() => {}); // a reader that is gone ends the watch by its own signal
    cancel = clock.after(ms, tick);
  }
  return () => cancel();
}

/** As Kubernetes refuses them (ValidateListOptions). */
function checkInitial(query: URLSearchParams, initial: boolean, bookmarks: boolean): void {
  const match = query.get('resourceVersionMatch') ?? '';
  const wrong = (field: string, message: string) => {
    const details: StatusDetails = { causes: [{ reason: 'FieldValueForbidden', message, field }] };
    return refuse(
      failure('Invalid', `ListOptions.meta.k8s.io "" is invalid: ${field}: Forbidden: ${message}`, details),
    );
  };
  if (initial && match !== 'NotOlderThan')
    wrong('resourceVersionMatch', 'sendInitialEvents needs resourceVersionMatch=NotOlderThan');
  if (initial && !bookmarks) wrong('allowWatchBookmarks', 'sendInitialEvents needs allowWatchBookmarks=true');
  if (match !== '' && !query.has('sendInitialEvents'))
    wrong('resourceVersionMatch', 'resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided');
}

/** Turns changes into events of what the selector shows. One line at a time: batches and bookmarks never mix. */
class EventStream {
  revision = 0;
  private columns = true;
  private tail: Promise<void> = Promise.resolve();
  private readonly sendLine: SendLine;
  private readonly shown: Shown;
  private readonly matches: Matcher;

  constructor(sendLine: SendLine, shown: Shown, matches: Matcher) {
    this.sendLine = sendLine;
    this.shown = shown;
    this.matches = matches;
  }

  async added(object: MeshObject): Promise<void> {
    if (this.matches(object)) await this.send('ADDED', object);
  }

  async batch({ revision, changes }: Changes): Promise<void> {
    for (const change of changes) await this.change(change);
    this.revision = revision;
  }

  bookmark(initialEnd: boolean): Promise<void> {
    return this.line('BOOKMARK', bookmark(this.revision, this.shown, initialEnd));
  }

  async error(error: unknown, log: Logger): Promise<void> {
    const { status, internal } = statusOf(error);
    if (internal) log.error('a watch failed', { error });
    await this.line('ERROR', status satisfies Status).catch(() => {});
  }

  private async change({ entry, previous, revision }: Change): Promise<void> {
    const now = entry === undefined ? undefined : objectOf(entry);
    // A deleted object is shown as it was, at the revision of its deletion.
    const before = previous === undefined ? undefined : objectOf({ ...previous, revision });
    const isShown = now !== undefined && this.matches(now);
    const wasShown = before !== undefined && this.matches(before);
    if (isShown) await this.send(wasShown ? 'MODIFIED' : 'ADDED', now);
    else if (wasShown) await this.send('DELETED', now ?? before);
  }

  private async send(type: string, object: MeshObject): Promise<void> {
    await this.line(type, showObject(object, this.shown, this.columns));
    this.columns = false;
  }

  private line(type: string, object: unknown): Promise<void> {
    const sent = this.tail.then(() => this.sendLine(`${JSON.stringify({ type, object })}\n`));
    this.tail = sent.catch(() => {});
    return sent;
  }
}

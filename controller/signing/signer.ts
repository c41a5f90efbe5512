/**
 * Signs generations. In: the store's rows as they change, the replica's keys. Out: a TrustedState for each generation and each fresh
 * timestamp, through `history`, to whoever publishes. Must never publish what the verifier would refuse or what is not yet in the store, or
 * take a number twice: numbers are store revisions, taken by compare-and-set together with what is signed under them.
 */

import { errorLine, hasCode, MeshError } from '../../api/errors.ts';
import { diffContent, emptyContent } from '../../api/signed-config/content.ts';
import type { ReplicaAnchor } from '../../api/signed-config/desired-config.ts';
import { createHistory, type History } from '../../api/signed-config/history.ts';
import { CONTENT_ROLES, type ContentRole } from '../../api/signed-config/layout.ts';
import type { RoleChange } from '../../api/signed-config/update.ts';
import { acceptRoots, acceptUpdate, type TrustedState, trustAnchor } from '../../api/signed-config/verifier.ts';
import { CAPABILITY } from '../../api/version.ts';
import { backoffMs } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Store, Write } from '../store/store.ts';
import { type Current, needsSigning, signGeneration } from './generation.ts';
import type { SigningKeys } from './init.ts';
import { ANCHOR_ROWS, CURRENT_ROW, VIP_ROWS } from './snapshot.ts';
import { createSource, type Draft, type Source } from './source.ts';

export interface SignerDeps {
  readonly store: Pick<Store, 'get' | 'list' | 'commit' | 'watch'>;
  readonly keys: SigningKeys;
  readonly trustDomain: string;
  readonly clock: Clock;
  /** In [0,1). */
  readonly random: () => number;
  readonly log: Logger;
}

export interface SignerStatus {
  readonly generation: number;
  readonly rootVersion: number;
  /** RFC 3339; undefined before the first. */
  readonly rootExpires: string | undefined;
  readonly timestampVersion: number;
  readonly problems: readonly string[];
}

export interface Signer extends Part {
  readonly history: History;
  /** What was signed last; undefined before the first. */
  latest(): TrustedState | undefined;
  /** Called after each publication: a new generation, or only a fresh timestamp. Returns: no more calls. */
  onPublished(listener: (state: TrustedState) => void): () => void;
  status(): SignerStatus;
}

const TIMESTAMP_EVERY_MS = 5 * 60_000;
const RETRY = { baseMs: 100, maxMs: 5000 };

/** Throws SIGNING_NOT_INITIALISED from `start` when the store has no root. `start` resolves when the first generation is published. */
export function createSigner(deps: SignerDeps): Signer {
  const history = createHistory();
  const listeners = new Set<(state: TrustedState) => void>();
  let source: Source | undefined;
  let seen = 0;
  /** The store has a newer signature than the rows seen so far: signing now would undo what another replica signed. */
  let behind = false;
  /** CURRENT_ROW as this replica wrote it: to see it come back is no news. */
  let written: string | undefined;
  let problems: readonly string[] = [];
  let failure: string | undefined;
  let stop = new AbortController();
  let wake = () => {};
  let dirty = false;
  let cancelTimer = () => {};
  const running: Promise<void>[] = [];

  const poke = () => {
    dirty = true;
    wake();
  };
  const publish = (state: TrustedState) => {
    history.push(state);
    for (const listener of listeners) listener(state);
  };

  /** Reads everything; afterwards changes come by watch. */
  async function load(): Promise<void> {
    const fresh = createSource({ trustDomain: deps.trustDomain, minCapability: CAPABILITY });
    const page = await deps.store.list('');
    fresh.apply(page.entries.map(({ key, value }) => ({ key, value })));
    if (fresh.roots().length === 0 || fresh.targets() === undefined)
      throw new MeshError('SIGNING_NOT_INITIALISED', 'the store has no TUF root: run `mesh-controller init`');
    source = fresh;
    seen = page.revision;
  }

  async function follow(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      try {
        for await (const { revision, changes } of deps.store.watch('', seen, signal)) {
          const rows = changes.map(({ key, entry }) => ({ key, value: entry?.value }));
          // What another replica signed is to be published here too.
          const isForeign = rows.some(({ key, value }) => key === CURRENT_ROW && value !== written);
          const changed = source?.apply(rows) === true || isForeign;
          seen = Math.max(seen, revision);
          failures = 0;
          if (changed || behind) poke();
        }
      } catch (error) {
        if (signal.aborted) return;
        deps.log.warn('the watch of the store ended; reading it again', { error });
        await wait(backoffMs(failures++, RETRY, deps.random));
        if (hasCode(error, 'STORE_COMPACTED') || hasCode(error, 'STORE_REVISION_FUTURE'))
          await load().then(poke, () => {});
      }
    }
  }

  const wait = (ms: number) =>
    new Promise<void>((resolve) => {
      const cancel = deps.clock.after(ms, resolve);
      const end = () => {
        cancel();
        resolve();
      };
      stop.signal.addEventListener('abort', end, { once: true });
    });

  async function signLoop(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      if (!dirty) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      dirty = false;
      try {
        await signOnce();
        failure = undefined;
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        failure = `config is not signed: ${errorLine(error)}`;
        deps.log.error('signing failed', { error });
        dirty = true;
        await wait(backoffMs(failures++, RETRY, deps.random));
      }
    }
  }

  async function signOnce(): Promise<void> {
    const from = source as Source;
    const revision = seen;
    const now = deps.clock.now();
    const draft = from.draft(now);
    problems = draft.problems;
    const entry = await deps.store.get(CURRENT_ROW);
    behind = (entry?.revision ?? 0) > revision;
    if (behind) {
      if ((entry?.revision ?? 0) <= seen) poke(); // the watch caught up while the row was read
      return;
    }
    const last = entry === undefined ? undefined : (JSON.parse(entry.value) as Current);
    const base = trustRoots(from.roots(), history.latest());
    const inputs = { draft, last, root: base.root.metadata.signed, targets: from.targets() as string, now };
    if (last !== undefined && !needsSigning(inputs, TIMESTAMP_EVERY_MS)) {
      // Another replica signed it, or this one before its restart.
      if (history.latest()?.timestamp?.text !== last.timestamp) publish(adopt(base, last, draft, undefined));
      return;
    }
    const current = signGeneration(inputs, {
      keys: deps.keys,
      generation: Math.max(revision, (last?.generation ?? 0) + 1),
    });
    const state = adopt(base, current, draft, now);
    const writes: Write[] = [...draft.vipChanges].map(([name, row]) => ({
      key: `${VIP_ROWS}${name}`,
      value: row === undefined ? null : JSON.stringify(row),
    }));
    written = JSON.stringify(current);
    writes.push({ key: CURRENT_ROW, value: written, ifRevision: entry?.revision ?? 0 });
    const result = await deps.store.commit(writes);
    if (!result.ok) {
      poke(); // another replica was first: look again
      return;
    }
    from.apply(
      writes.filter(({ key }) => key !== CURRENT_ROW).map(({ key, value }) => ({ key, value: value ?? undefined })),
    );
    publish(state);
  }

  const armTimer = () => {
    cancelTimer = deps.clock.after(TIMESTAMP_EVERY_MS, () => {
      poke();
      armTimer();
    });
  };

  return {
    name: 'signer',
    history,
    latest: () => history.latest(),
    onPublished(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async start() {
      stop = new AbortController();
      await load();
      await signOnce();
      armTimer();
      running.push(follow(stop.signal), signLoop(stop.signal));
      if (history.latest() === undefined) poke();
    },
    async stop() {
      stop.abort();
      cancelTimer();
      wake();
      await Promise.all(running.splice(0));
    },
    status() {
      const state = history.latest();
      return {
        generation: state?.accepted?.generation ?? 0,
        rootVersion: state?.root.metadata.signed.version ?? 0,
        rootExpires: state?.root.metadata.signed.expires,
        timestampVersion: state?.timestamp?.metadata.signed.version ?? 0,
        problems: failure === undefined ? problems : [failure, ...problems],
      };
    },
  };
}

function trustRoots(roots: readonly string[], held: TrustedState | undefined): TrustedState {
  const base = held ?? trustAnchor(roots[0] as string);
  return acceptRoots(base, { format: 1, roots });
}

/** What the verifier makes of it: nothing is published that a host would refuse. */
function adopt(base: TrustedState, current: Current, draft: Draft, now: number | undefined): TrustedState {
  const content: Partial<Record<ContentRole, RoleChange>> = {};
  for (const role of CONTENT_ROLES) {
    const from = base.accepted?.roles[role];
    const start = from?.content ?? emptyContent;
    const delta = diffContent(start, draft.contents[role]);
    content[role] =
      from === undefined
        ? { kind: 'full', ...delta }
        : { kind: 'delta', from: { generation: from.head.generation, root: from.head.root }, ...delta };
  }
  const { timestamp, snapshot, targets, policy, state, heads } = current;
  const update = { format: 1 as const, roots: [], timestamp, snapshot, targets, policy, state, heads, content };
  return acceptUpdate(base, update, { now, capability: CAPABILITY });
}

/** Puts a replica's anchor (its intermediate and addresses) into `policy`; writes nothing when it is there already. */
export async function putAnchor(store: Pick<Store, 'get' | 'commit'>, anchor: ReplicaAnchor): Promise<void> {
  const key = `${ANCHOR_ROWS}${anchor.replica}`;
  const value = JSON.stringify(anchor);
  if ((await store.get(key))?.value !== value) await store.commit([{ key, value }]);
}

/** Takes a replica's anchor out: hosts stop trusting what its intermediate issued. */
export async function removeAnchor(store: Pick<Store, 'commit'>, replica: string): Promise<void> {
  await store.commit([{ key: `${ANCHOR_ROWS}${replica}`, value: null }]);
}

/**
 * Certificates of gateways. In: the SDS names that listeners refer to, a way to ask a controller for Secrets. Out: material for Envoy, what is
 * missing. Kept 0600 in STATE_DIR/identity/secrets for reboots; a Secret that was deleted is served on until nobody refers to it (docs/decisions/0009).
 * Must never: keep what no listener refers to, or log a value.
 */
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorLine } from '../../api/errors.ts';
import type { SecretAnswer, SecretsRequest, SecretsResponse } from '../../api/http/agent-api.ts';
import { type SecretParts, secretsOfSdsName } from '../../api/resources/secret-data.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';
import { backoffMs } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';

export interface GatewaySecretsDeps {
  /** STATE_DIR/identity/secrets. */
  readonly dir: string;
  /** Asks a controller, presenting the host SVID; resolves when something differs or the wait is over. */
  fetch(request: SecretsRequest, signal: AbortSignal): Promise<SecretsResponse>;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/** As agent/xds takes it. */
export type GatewaySecretMaterial =
  | { readonly certificateChainPem: string; readonly privateKeyPem: string }
  | { readonly trustedCaPem: string; readonly validation?: { readonly crl: { readonly inline_string: string } } };

export interface GatewaySecrets extends Part {
  /** The SDS names of all listeners and clusters now; others than Secrets' are left alone. */
  want(sdsNames: Iterable<string>): void;
  get(sdsName: string): GatewaySecretMaterial | undefined;
  onChange(listener: () => void): void;
  /** One line for each name that cannot be served, or is served from what was kept. */
  problems(): readonly string[];
}

interface Kept {
  readonly name: string;
  readonly version: string;
  readonly parts: SecretParts;
}

const WAIT_SECONDS = 50;
const RETRY = { baseMs: 200, maxMs: 30_000 };
/** Between two questions to which the answer was: nothing new. */
const AT_LEAST_MS = 1000;
const MAX_ASKED = 100;
const SECRET_NAME = /^[-a-z0-9]{1,63}\/[-.a-z0-9]{1,253}$/;

export function createGatewaySecrets(deps: GatewaySecretsDeps): GatewaySecrets {
  const { clock, log } = deps;
  const kept = new Map<string, Kept>();
  const told = new Map<string, { readonly code: string; readonly message: string }>();
  const listeners: (() => void)[] = [];
  let wanted: readonly string[] | undefined; // SDS names; undefined before the first run
  let names: readonly string[] = [];
  let lastError: string | undefined;
  let signal: AbortSignal | undefined;
  let current: AbortController | undefined;
  let running: Promise<void> = Promise.resolve();

  const get = (sdsName: string): GatewaySecretMaterial | undefined => {
    const asked = secretsOfSdsName(sdsName);
    for (const name of asked?.secrets ?? []) {
      const material = materialOf(kept.get(name)?.parts, asked?.part);
      if (material !== undefined) return material;
    }
    return undefined;
  };

  async function take(answer: SecretAnswer): Promise<boolean> {
    if (!names.includes(answer.name)) return false;
    if ('code' in answer) {
      told.set(answer.name, answer);
      return false;
    }
    const { name, version, parts } = answer;
    told.delete(name);
    await writeFileAtomic(fileOf(deps.dir, name), JSON.stringify({ name, version, parts } satisfies Kept)).catch(
      (error) => log.error('a Secret is used but could not be kept for a reboot', { secret: name, error }),
    );
    kept.set(name, { name, version, parts });
    log.info('secret received', { secret: name });
    return true;
  }

  /** Asks until `abort`; what is asked changes with `want`, which starts it anew. */
  async function follow(abort: AbortSignal): Promise<void> {
    let failures = 0;
    while (!abort.aborted && names.length > 0) {
      const startedAt = clock.monotonic();
      let news = false;
      try {
        const secrets = names
          .slice(0, MAX_ASKED)
          .map((name) => ({ name, have: told.get(name)?.code ?? kept.get(name)?.version ?? '' }));
        const answer = await deps.fetch({ secrets, wait: WAIT_SECONDS }, abort);
        failures = 0;
        lastError = undefined;
        news = answer.secrets.length > 0;
        const changed = await Promise.all(answer.secrets.map(take));
        if (changed.includes(true)) for (const listener of listeners) listener();
      } catch (error) {
        if (abort.aborted) return;
        failures += 1;
        lastError = errorLine(error);
        log.warn('secrets not fetched', { error, failures });
      }
      const pause =
        failures > 0 ? backoffMs(failures, RETRY, deps.random) : AT_LEAST_MS - (clock.monotonic() - startedAt);
      if (!news && pause > 0) await sleep(clock, pause, abort);
    }
  }

  function restart(): void {
    current?.abort();
    if (signal === undefined || signal.aborted || wanted === undefined) return;
    const mine = new AbortController();
    current = mine;
    const all = AbortSignal.any([signal, mine.signal]);
    running = running.then(() => follow(all)).catch((error) => log.error('secrets are no longer followed', { error }));
  }

  async function load(): Promise<void> {
    await mkdir(deps.dir, { recursive: true, mode: 0o700 });
    for (const file of await readdir(deps.dir)) {
      const path = join(deps.dir, file);
      try {
        if (((await stat(path)).mode & 0o077) !== 0) throw new Error('others may read it');
        const { name, version, parts } = JSON.parse(await readFile(path, 'utf8')) as Kept;
        if (fileOf(deps.dir, name) === path) kept.set(name, { name, version, parts });
      } catch (error) {
        log.warn('a kept Secret is dropped and asked for again', { file, error });
        await rm(path, { force: true });
      }
    }
  }

  /** What no listener refers to any more is a key that this host need not have. */
  async function dropUnwanted(): Promise<void> {
    for (const name of [...kept.keys()]) {
      if (names.includes(name)) continue;
      kept.delete(name);
      await rm(fileOf(deps.dir, name), { force: true });
      log.info('secret dropped: no listener refers to it', { secret: name });
    }
    for (const name of [...told.keys()]) if (!names.includes(name)) told.delete(name);
  }

  return {
    name: 'gateway secrets',
    async start(abort) {
      await load();
      signal = abort;
      restart();
    },
    async stop() {
      signal = undefined;
      current?.abort();
      await running;
    },
    want(sdsNames) {
      const next = [...sdsNames].filter((name) => secretsOfSdsName(name) !== undefined).sort();
      if (wanted !== undefined && next.join() === wanted.join()) return;
      wanted = next;
      const all = new Set(next.flatMap((name) => secretsOfSdsName(name)?.secrets ?? []));
      // A controller refuses a request with a name that is none, and with it the others.
      names = [...all].filter((name) => SECRET_NAME.test(name)).sort();
      void dropUnwanted().catch((error) => log.warn('a Secret could not be deleted', { error }));
      restart();
    },
    get,
    onChange: (listener) => void listeners.push(listener),
    problems() {
      const lines = (wanted ?? []).flatMap((sdsName): string[] => {
        const [first = ''] = secretsOfSdsName(sdsName)?.secrets ?? [];
        const why = told.get(first);
        if (get(sdsName) === undefined)
          return [`certificate ${sdsName} is not here: ${why?.message ?? lastError ?? 'a controller is being asked'}`];
        return why === undefined || !kept.has(first) ? [] : [`${why.message}; its last version is served on`];
      });
      const more =
        names.length > MAX_ASKED ? [`a host has at most ${MAX_ASKED} Secrets: the rest is not asked for`] : [];
      return [...new Set([...lines, ...more])];
    },
  };
}

function materialOf(
  parts: SecretParts | undefined,
  part: 'certificate' | 'ca' | undefined,
): GatewaySecretMaterial | undefined {
  if (part === 'ca') {
    if (parts?.ca === undefined) return undefined;
    return {
      trustedCaPem: parts.ca,
      ...(parts.crl === undefined ? {} : { validation: { crl: { inline_string: parts.crl } } }),
    };
  }
  const { certificate, privateKey } = parts ?? {};
  if (certificate === undefined || privateKey === undefined) return undefined;
  return { certificateChainPem: certificate, privateKeyPem: privateKey };
}

/** `NS/NAME` as a file name: `_` is in no name. */
function fileOf(dir: string, name: string): string {
  return join(dir, `${String(name).replace('/', '_')}.json`);
}

function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const cancel = clock.after(ms, done);
    signal.addEventListener('abort', done, { once: true });
    if (signal.aborted) done();
  });
}

import { randomUUID } from 'node:crypto';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '../../api/errors.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';
import { delay } from '../../runtime/clock.ts';
import { MAX_RESULT_BYTES, parseResult, type RedirectResult } from './result.ts';
import { MAX_SPEC_BYTES, parseSpec, type RedirectSpec } from './spec.ts';

/** Names of the files in RUN_DIR/redirect. */
export const REDIRECT_FILES = { spec: 'spec.json', result: 'result.json', confirm: 'confirm.json' } as const;

/** A spec without what each request adds. */
export type Asked = Omit<RedirectSpec, 'version' | 'requestId'>;

/** The agent's side of the redirection: it asks by a file, root's oneshot (started by mesh-redirect.path, or by the lab) answers by one. */
export interface RedirectClient {
  /** Asks for `spec` and waits for the answer to this very request. Throws REDIRECT_TIMEOUT when no oneshot ran within timeoutMs. */
  apply(spec: Asked, options: { timeoutMs: number; signal?: AbortSignal }): Promise<RedirectResult>;
  /** Tells the revert timer that the agent is healthy through the new rules: they stay. */
  confirm(id: string): Promise<void>;
  /** The last result, whoever asked; undefined before the first. */
  last(): Promise<RedirectResult | undefined>;
  /** What was asked for last and applied, by an agent before this one perhaps; undefined when nothing is known to stand. */
  standing(): Promise<{ readonly spec: Asked; readonly result: RedirectResult } | undefined>;
}

const POLL_MS = 20;
/** systemd's path unit does not hear of a file that is replaced while systemd reads its units again (252): the request is written once more. */
const RENEW_MS = 1500;

/** A client over `folder` = RUN_DIR/redirect, which it makes (0755) when it is missing. */
export function createRedirectClient(folder: string): RedirectClient {
  const path = (name: keyof typeof REDIRECT_FILES) => join(folder, REDIRECT_FILES[name]);
  const prepare = async () => {
    await mkdir(folder, { recursive: true });
    await chmod(folder, 0o755).catch(() => {}); // root made it, then its mode is right
  };
  const last = async () => {
    const text = await readFile(path('result'), 'utf8').catch(() => undefined);
    return text === undefined || text.length > MAX_RESULT_BYTES ? undefined : parseResult(text);
  };
  return {
    last,
    async standing() {
      const result = await last().catch(() => undefined);
      const text = await readFile(path('spec'), 'utf8').catch(() => '');
      if (result?.status !== 'applied' || text === '' || text.length > MAX_SPEC_BYTES) return undefined;
      try {
        const { version: _version, requestId, ...spec } = parseSpec(text);
        return requestId === result.requestId ? { spec, result } : undefined;
      } catch {
        return undefined;
      }
    },
    async apply(spec, { timeoutMs, signal }) {
      await prepare();
      const requestId = randomUUID();
      const text = JSON.stringify({ version: 1, requestId, ...spec });
      const deadline = performance.now() + timeoutMs;
      let renewAt = Number.NEGATIVE_INFINITY;
      for (;;) {
        if (performance.now() > renewAt) {
          await writeFileAtomic(path('spec'), text);
          renewAt = performance.now() + RENEW_MS;
        }
        const result = await last();
        if (result?.requestId === requestId) return result;
        if (performance.now() > deadline)
          throw new MeshError(
            'REDIRECT_TIMEOUT',
            `no answer from mesh-redirect within ${timeoutMs} ms; is its unit enabled?`,
          );
        await delay(POLL_MS, signal);
      }
    },
    async confirm(id) {
      await prepare();
      await writeFileAtomic(path('confirm'), JSON.stringify({ id }));
    },
  };
}

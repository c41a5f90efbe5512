import { readFile, rm } from 'node:fs/promises';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';
import type { Logger } from '../../runtime/log.ts';

/** Worker threads of this host's Envoy: a start option, which no config can change while it runs. */
export interface ProxyConcurrency {
  /** Writes what the next start takes; undefined: Envoy's own choice, one a processor. */
  want(threads: number | undefined): Promise<void>;
  /** Asks the running Envoy how many it has, where that is not known to be what is wanted. */
  look(): Promise<void>;
  /** A line while the running Envoy differs. */
  problems(): readonly string[];
}

export interface ProxyConcurrencyDeps {
  /** Read by the proxy's unit at its start: one number, or absent. */
  readonly file: string;
  running(): Promise<number>;
  readonly log: Logger;
}

/** Never restarts Envoy by itself: that is for the operator to choose the time of. Failures are logged. */
export function createProxyConcurrency({ file, running, log }: ProxyConcurrencyDeps): ProxyConcurrency {
  let wanted: number | undefined;
  let seen: number | undefined;
  const look = async () => {
    if (wanted === undefined || seen === wanted) return;
    seen = await running().catch(() => undefined);
  };
  return {
    async want(threads) {
      if (threads === wanted && threads !== undefined) return;
      wanted = threads;
      try {
        const before = await readFile(file, 'utf8').catch(() => undefined);
        if (threads === undefined) {
          if (before !== undefined) await rm(file, { force: true });
        } else if (before !== `${threads}\n`) await writeFileAtomic(file, `${threads}\n`, 0o640);
      } catch (error) {
        log.error('worker threads of the proxy not written', { error });
      }
      await look();
    },
    look,
    problems: () =>
      wanted === undefined || seen === undefined || seen === wanted
        ? []
        : [
            `the proxy runs ${seen} worker threads, ${wanted} are asked for: \`systemctl reload mesh-proxy\` takes that up`,
          ],
  };
}

/** Load from a host while something breaks. In: a URL and a rate. Out: what scripts/lib/load.ts counted. */
import type { LoadReport } from '../load.ts';
import { check } from './run.ts';
import { HOST_NODE, onHost, type World } from './world.ts';

export interface Load {
  stop(): Promise<LoadReport>;
}

/** `perSecond` requests a second from host a as hm-client, half of them on new connections, until stopped. */
export async function loadOn(world: World, url: string, perSecond: number): Promise<Load> {
  const command = [HOST_NODE, onHost('scripts/lib/load.ts'), url, String(perSecond)];
  const running = await world.start('a', 'hm-client', command, /started/);
  return {
    async stop() {
      const last = (await running.finish()).trim().split('\n').at(-1) ?? '';
      check(last.startsWith('{'), `the load ended without a report: ${last}`);
      return JSON.parse(last) as LoadReport;
    },
  };
}

/** Time from the first failure to the last, ms; 0 without any. */
export function outageMs(report: LoadReport): number {
  const [first, last] = [report.failed[0], report.failed.at(-1)];
  return first === undefined || last === undefined ? 0 : last.at - first.at;
}

/** The first failures in words. */
export function firstFailures({ failed, failures, sent }: LoadReport): string {
  const some = failed.slice(0, 5).map(({ at, why }) => `${(at / 1000).toFixed(2)} s: ${why}`);
  return `${failures} of ${sent} failed: ${some.join('; ')}`;
}

/**
 * `load.ts URL PER_SECOND`: sends requests at a steady rate until its stdin ends, then prints one JSON line, a LoadReport. For http URLs every
 * second request opens a connection of its own, the others share kept ones; anything but a 200 is a failure. `dns:NAME` asks the resolver of
 * /etc/resolv.conf for NAME instead, each question on a socket of its own, repeated each 2 s for 10 s as the lab's libc does. Ends after 10 minutes at most.
 */
import { Resolver } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { Agent, get } from 'node:http';

/** What is printed at the end. Times in ms since the start. */
export interface LoadReport {
  readonly sent: number;
  /** The first 1,000. */
  readonly failed: readonly { readonly at: number; readonly why: string }[];
  readonly failures: number;
  /** Longest time from a question to its answer. */
  readonly slowestMs: number;
}

const MAX_RUN_MS = 600_000;
const LAST_ANSWER_MS = 30_000;
const MAX_FAILED = 1000;

/** One question; resolves when it was answered well, rejects with what went wrong. */
export function asker(url: string): () => Promise<void> {
  if (url.startsWith('dns:')) return () => askDns(url.slice(4));
  const kept = new Agent({ keepAlive: true, maxSockets: 20 });
  const fresh = new Agent({ keepAlive: false });
  let number = 0;
  return () => askHttp(url, number++ % 2 === 0 ? kept : fresh);
}

async function askDns(name: string): Promise<void> {
  const resolver = new Resolver({ timeout: 2000, tries: 5, maxTimeout: 2000 });
  resolver.setServers(nameServers(readFileSync('/etc/resolv.conf', 'utf8')));
  await resolver.resolve4(name);
}

/** Addresses of the name servers in resolv.conf(5)'s text. */
export function nameServers(text: string): string[] {
  return [...text.matchAll(/^nameserver\s+(\S+)/gm)].map((match) => match[1] as string);
}

function askHttp(url: string, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent, timeout: 20_000 }, (response) => {
      response.resume();
      response.once('error', reject);
      response.once('end', () =>
        response.statusCode === 200 ? resolve() : reject(new Error(`status ${response.statusCode}`)),
      );
    });
    request.once('timeout', () => request.destroy(new Error('no answer in 20 s')));
    request.once('error', reject);
  });
}

/** Asks `perSecond` times a second until `stop`, then waits for the last answers. A late timer sends what is due. */
export function startLoad(ask: () => Promise<void>, perSecond: number): { stop(): Promise<LoadReport> } {
  const begun = performance.now();
  const failed: { at: number; why: string }[] = [];
  let [sent, answered, failures, slowestMs] = [0, 0, 0, 0];
  const fail = (why: string) => {
    failures += 1;
    if (failed.length < MAX_FAILED) failed.push({ at: Math.round(performance.now() - begun), why });
  };
  const one = () => {
    sent += 1;
    const asked = performance.now();
    ask()
      .catch((error: Error) => fail(error.message))
      .finally(() => {
        answered += 1;
        slowestMs = Math.max(slowestMs, Math.round(performance.now() - asked));
      });
  };
  const timer = setInterval(
    () => {
      const due = Math.floor(((performance.now() - begun) / 1000) * perSecond);
      while (sent < due) one();
    },
    Math.min(1000 / perSecond, 20),
  );
  return {
    async stop() {
      clearInterval(timer);
      const end = performance.now() + LAST_ANSWER_MS;
      while (answered < sent && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
      if (answered < sent) fail(`${sent - answered} never answered`);
      return { sent, failed, failures, slowestMs };
    },
  };
}

if (import.meta.main) {
  const [url = '', perSecond = '10'] = process.argv.slice(2);
  const load = startLoad(asker(url), Number(perSecond));
  const finish = async () => {
    const report = await load.stop();
    process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));
  };
  process.stdin.resume().once('end', finish);
  setTimeout(finish, MAX_RUN_MS).unref();
  process.stdout.write('started\n');
}

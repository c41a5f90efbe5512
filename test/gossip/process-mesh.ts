/** A mesh whose hosts are processes of their own (host.ts), for tests that kill, freeze, flood or measure them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { GossipRefusal } from '../../api/http/agent-api.ts';
import type { HostGrant } from '../../api/signed-config/desired-config.ts';
import { createTestCa } from '../builders/test-ca.ts';
import type { HostFile } from './host.ts';
import { until } from './mesh.ts';

export interface HostProcess {
  readonly child: ChildProcess;
  last: { hosts: Record<string, string>; cpuMs: number; rss: number; refused: readonly GossipRefusal[] };
  lines: number;
  exited: number | null | undefined;
}

/** Starts h0 to h(count-1); `granted` hosts are in config, the first three with their address. */
export function setUp(t: Test, count: number, { granted = count } = {}) {
  const ca = createTestCa();
  const dir = t.testdir();
  const octet = 1 + ((process.pid * 13) % 250);
  const port = 15300;
  const address = (n: number) => `127.${octet}.9.${n + 1}`;
  const grants: HostGrant[] = Array.from({ length: granted }, (_, n) => ({
    host: `h${n}`,
    epoch: 1,
    workloadGroups: [],
    gossipAddresses: [`${address(n)}:${port}`],
  }));
  const running = new Map<string, HostProcess>();
  const start = (n: number) => {
    const { chainPem, privateKeyPem } = ca.host(`h${n}`);
    const file: HostFile = {
      host: `h${n}`,
      trustDomain: ca.trustDomain,
      address: address(n),
      port,
      dir,
      chainPem,
      privateKeyPem,
      grants,
      intermediatePem: ca.intermediatePem,
    };
    const path = join(dir, `h${n}.json`);
    writeFileSync(path, JSON.stringify(file), { mode: 0o600 });
    const child = spawn(process.execPath, ['--max-semi-space-size=1', join(import.meta.dirname, 'host.ts'), path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const host: HostProcess = {
      child,
      last: { hosts: {}, cpuMs: 0, rss: 0, refused: [] },
      lines: 0,
      exited: undefined,
    };
    let rest = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop() ?? '';
      for (const line of parts) {
        host.last = JSON.parse(line);
        host.lines += 1;
      }
    });
    child.on('exit', (code) => {
      host.exited = code;
    });
    running.set(`h${n}`, host);
    return host;
  };
  t.teardown(() => {
    for (const { child } of running.values()) child.kill('SIGKILL');
  });
  for (let n = 0; n < count; n++) start(n);
  const see = (observers: string[], host: string, state: string) =>
    observers.every((o) => running.get(o)?.last.hosts[host] === state);
  const show = () => JSON.stringify([...running].map(([h, p]) => [h, p.last.hosts]));
  const whole = () => until(() => [...running.keys()].every((h) => see([...running.keys()], h, 'alive')), 20_000, show);
  const outsider = (host: string) => createTestCa(ca.trustDomain).host(host);
  return { running, start, see, show, whole, ca, port, address, outsider };
}

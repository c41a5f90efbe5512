/**
 * One host's gossip room in a process of its own. argv[2]: a JSON file of HostFile. Prints one JSON line a change: liveness by host, and whether
 * the addresses are proven, what it spent and refused. SIGUSR2: prints one now. SIGTERM leaves in order.
 */
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Registry } from 'prom-client';
import { createGossip } from '../../agent/gossip/gossip.ts';
import type { HostGrant } from '../../api/signed-config/desired-config.ts';
import { systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';

export interface HostFile {
  readonly host: string;
  readonly trustDomain: string;
  readonly address: string;
  readonly port: number;
  readonly dir: string;
  readonly chainPem: string;
  readonly privateKeyPem: string;
  readonly grants: readonly HostGrant[];
  readonly intermediatePem: string;
}

const file = JSON.parse(readFileSync(process.argv[2] as string, 'utf8')) as HostFile;
const identity = { chainPem: file.chainPem, privateKey: createPrivateKey(file.privateKeyPem) };
const gossip = createGossip({
  host: file.host,
  trustDomain: file.trustDomain,
  identity: () => identity,
  grants: () => ({
    hosts: new Map(file.grants.map((g) => [g.host, g])),
    revokedHosts: new Set(),
    intermediates: [file.intermediatePem],
  }),
  listenAddresses: [file.address],
  port: file.port,
  advertiseAddresses: [file.address],
  addressAllowed: () => true,
  tablePath: `${file.dir}/${file.host}.table`,
  counterPath: `${file.dir}/${file.host}.counter`,
  clock: systemClock,
  random: Math.random,
  log: silentLogger,
  registry: new Registry(),
});
const tell = () => {
  const hosts = [...gossip.snapshot().hosts].map(([host, e]) => [
    host,
    e.liveness === 'alive' && e.provenAddresses.length === 0 ? 'unproven' : e.liveness,
  ]);
  process.stdout.write(
    `${JSON.stringify({ hosts: Object.fromEntries(hosts), cpuMs: process.cpuUsage().user / 1000 + process.cpuUsage().system / 1000, rss: process.memoryUsage().rss, refused: gossip.refusals() })}\n`,
  );
};
gossip.onChange(tell);
process.on('SIGTERM', async () => {
  await gossip.leave();
  await gossip.stop();
  process.exit(0);
});
process.on('SIGUSR2', tell);
await gossip.start(new AbortController().signal);
await gossip.publishOwn({ network: 'default', addresses: [file.address], workloads: [] });

/** Gossip rooms on loopback, for tests: each host listens on 127.77.X.Y with one port; real UDP, TCP, TLS and files, a test CA. */
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { createGossip } from '../../agent/gossip/gossip.ts';
import type { Gossip } from '../../agent/gossip/gossip-api.ts';
import type { OwnFields } from '../../agent/gossip/own-record.ts';
import type { Grants } from '../../agent/gossip/trust.ts';
import type { HostGrant } from '../../api/signed-config/desired-config.ts';
import { type Clock, systemClock } from '../../runtime/clock.ts';
import { type Logger, silentLogger } from '../../runtime/log.ts';
import { createTestCa, type TestIdentity } from '../builders/test-ca.ts';

export interface MeshHost {
  readonly host: string;
  readonly address: string;
  gossip: Gossip;
  registry: Registry;
  identity: TestIdentity;
  readonly clock: Clock;
  stop(): Promise<void>;
  /** A new process of the same host: same files, same SVID. */
  restart(): Promise<void>;
}

export const GROUP = 'default/web';

export interface TestMesh {
  readonly ca: ReturnType<typeof createTestCa>;
  readonly port: number;
  /** Where host `n` listens unless told otherwise. */
  addressOf(n: number): string;
  readonly hosts: Map<string, MeshHost>;
  /** Changes config on all hosts. */
  config(
    change: (grants: { hosts: Map<string, HostGrant>; revokedHosts: Set<string>; intermediates: string[] }) => void,
  ): void;
  add(
    host: string,
    options?: {
      /** Where gossip listens, what it tells peers to dial, and its port; default: the host's one address, the mesh's port. */
      listen?: string[];
      advertise?: string[];
      port?: number;
      start?: boolean;
      identity?: TestIdentity;
      seeds?: string[];
      fields?: Partial<OwnFields>;
      /** Instead of the address that follows from the number. */
      address?: string;
      /** The wall clock of this host is off by so much. */
      clockOffMs?: number;
    },
  ): Promise<MeshHost>;
  stop(): Promise<void>;
}

let net = 0;

/** `count` granted hosts h0, h1 ...; the first three are named by config with their gossip address. */
export function createTestMesh(count: number, log: Logger = silentLogger, port = 15300): TestMesh {
  const ca = createTestCa();
  const dir = mkdtempSync(join(tmpdir(), 'gossip-'));
  net += 1;
  const octet = 1 + ((process.pid * 7 + net * 31) % 250);
  const addressOf = (n: number) => `127.${octet}.${Math.floor(n / 250)}.${1 + (n % 250)}`;
  const grants = {
    hosts: new Map<string, HostGrant>(
      Array.from({ length: count }, (_, n) => {
        const host = `h${n}`;
        const gossipAddresses = n < 3 ? [`${addressOf(n)}:${port}`] : [];
        return [host, { host, epoch: 1, workloadGroups: [GROUP], gossipAddresses }];
      }),
    ),
    revokedHosts: new Set<string>(),
    intermediates: [ca.intermediatePem],
  };
  const hosts = new Map<string, MeshHost>();
  const view = (): Grants => ({
    hosts: new Map(grants.hosts),
    revokedHosts: new Set(grants.revokedHosts),
    intermediates: [...grants.intermediates],
  });

  const make = (
    self: { identity: TestIdentity; clock: Clock },
    host: string,
    address: string,
    registry: Registry,
    seeds: string[],
    network: { listen?: string[]; advertise?: string[]; port?: number },
  ) =>
    createGossip({
      host,
      trustDomain: ca.trustDomain,
      identity: () => self.identity,
      grants: view,
      listenAddresses: network.listen ?? [address],
      port: network.port ?? port,
      advertiseAddresses: network.advertise ?? [address],
      seeds: () => seeds,
      addressAllowed: () => true,
      tablePath: join(dir, `${host}.table.json`),
      counterPath: join(dir, `${host}.counter`),
      clock: self.clock,
      random: Math.random,
      log: log.child(host),
      registry,
    });

  return {
    ca,
    port,
    addressOf,
    hosts,
    config(change) {
      change(grants);
      for (const { gossip } of hosts.values()) gossip.onConfigChanged();
    },
    async add(host, options = {}) {
      const address = options.address ?? addressOf(Number(host.slice(1)));
      const offMs = options.clockOffMs ?? 0;
      const registry = new Registry();
      const fields: OwnFields = {
        network: 'default',
        addresses: [address],
        workloads: [{ group: GROUP, health: 'healthy' }],
        ...options.fields,
      };
      const self: MeshHost = {
        host,
        address,
        registry,
        identity: options.identity ?? ca.host(host),
        clock: { ...systemClock, now: () => Date.now() + offMs },
        gossip: undefined as unknown as Gossip,
        stop: () => self.gossip.stop(),
        async restart() {
          self.registry = new Registry();
          self.gossip = make(self, host, address, self.registry, options.seeds ?? [], options);
          await self.gossip.start(new AbortController().signal);
          await self.gossip.publishOwn(fields);
        },
      };
      self.gossip = make(self, host, address, registry, options.seeds ?? [], options);
      hosts.set(host, self);
      if (options.start !== false) {
        await self.gossip.start(new AbortController().signal);
        await self.gossip.publishOwn(fields);
      }
      return self;
    },
    async stop() {
      await Promise.all([...hosts.values()].map((h) => h.gossip.stop()));
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Waits until `condition` holds; throws with what `describe` says after `timeoutMs`. Returns the time it took. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number,
  describe: () => string = () => 'condition not met',
): Promise<number> {
  const started = performance.now();
  while (!(await condition())) {
    if (performance.now() - started > timeoutMs) throw new Error(`after ${timeoutMs} ms: ${describe()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return performance.now() - started;
}

/** True when `observer` has `host` in `liveness` with all its addresses proven. */
export function sees(observer: MeshHost, host: string, liveness = 'alive'): boolean {
  const entry = observer.gossip.snapshot().hosts.get(host);
  if (entry?.liveness !== liveness) return false;
  return liveness !== 'alive' || entry.provenAddresses.length === entry.record.addresses.length;
}

export function show(mesh: TestMesh): string {
  return [...mesh.hosts.values()]
    .map(
      (h) =>
        `${h.host}: ${[...h.gossip.snapshot().hosts].map(([k, v]) => `${k}=${v.liveness}/${v.provenAddresses.length}`).join(' ')}`,
    )
    .join('\n');
}

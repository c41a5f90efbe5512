/** Hosts with real controlplane and gossip rooms on loopback, and a real controller's signer and publish server that counts what it serves. */
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createConfigCache } from '../../agent/controlplane/cache.ts';
import { createControllerClient } from '../../agent/controlplane/client.ts';
import { type Controlplane, createControlplane } from '../../agent/controlplane/controlplane.ts';
import { registerConfigRoutes } from '../../controller/publish/config-routes.ts';
import { createPublishServer } from '../../controller/publish/server.ts';
import { type Clock, systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { createSignedMesh, type SignedMesh } from '../builders/signed-mesh.ts';
import { createTestCa } from '../builders/test-ca.ts';
import { createMemoryGossip } from './memory-gossip.ts';
import { createTestMesh, type TestMesh, until } from './mesh.ts';

/** What the controller served so far. */
export interface Served {
  /** Answers with config in them, and without (204). */
  readonly bodies: number;
  readonly empty: number;
  readonly bodyBytes: number;
  /** With headers, before encryption. */
  readonly httpBytes: number;
}

export interface ConfigHost {
  readonly host: string;
  readonly plane: Controlplane;
  /** Who carried each generation that was accepted: `controller`, or the peer's id. */
  readonly carriers: Map<number, string>;
  /** When each generation was accepted, monotonic ms. */
  readonly at: Map<number, number>;
}

export interface ConfigMesh {
  readonly signed: SignedMesh;
  readonly mesh: TestMesh;
  readonly hosts: Map<string, ConfigHost>;
  /** Hosts that reach no controller; a change holds for their next request, and ends those that wait. */
  cut(hosts: readonly string[]): void;
  served(): Served;
  add(host: string, options?: { overGossip?: boolean; seeds?: string[] }): Promise<ConfigHost>;
  stop(): Promise<void>;
}

/** `direct`: how many waiting hosts the controller serves at once; undefined: its default. `memory`: gossip without a network. */
export async function createConfigMesh(count: number, direct?: number, memory = false): Promise<ConfigMesh> {
  const dir = mkdtempSync(join(tmpdir(), 'config-'));
  const signed = await createSignedMesh(dir);
  // Signed by a clock that stands still, so judged by it too; all waiting is in real time.
  const clock: Clock = { ...systemClock, now: () => signed.clock.now() };
  const mesh = createTestMesh(count);
  const bus = createMemoryGossip();
  const server = await serve(signed, clock, direct);
  const hosts = new Map<string, ConfigHost>();
  const isCut = new Map<string, AbortController>();

  const controllerOf = (host: string) => {
    const client = createControllerClient({ trust: () => undefined, now: clock.now });
    return {
      close: () => client.close(),
      async config(...[url, held, wait, signal]: Parameters<typeof client.config>) {
        const cut = isCut.get(host) ?? new AbortController();
        isCut.set(host, cut);
        if (cut.signal.aborted) throw new Error('cut off');
        return client.config(url, held, wait, AbortSignal.any([cut.signal, ...(signal === undefined ? [] : [signal])]));
      },
    };
  };
  const clients: { close(): void }[] = [];
  return {
    signed,
    mesh,
    hosts,
    cut(names) {
      for (const name of names) {
        const cut = isCut.get(name) ?? new AbortController();
        isCut.set(name, cut);
        cut.abort();
      }
    },
    served: server.served,
    async add(host, { overGossip = true, seeds = [] } = {}) {
      const gossip = memory ? bus(host) : (await mesh.add(host, { seeds })).gossip;
      const cacheDir = join(dir, host);
      const cache = createConfigCache(cacheDir);
      await cache.initialise(signed.rootText);
      const client = controllerOf(host);
      clients.push(client);
      const carriers = new Map<number, string>();
      const at = new Map<number, number>();
      let carrier = '';
      const plane = createControlplane({
        cache,
        client,
        controllers: () => [server.url],
        fetchFromPeer: (peer, request, signal) => gossip.fetchConfig(peer, request, signal),
        members: () => gossip.peers().filter(({ state }) => state === 'alive'),
        clock,
        random: Math.random,
        log: {
          ...silentLogger,
          info(message, fields) {
            if (message === 'config accepted') carrier = String(fields?.from);
          },
        },
      });
      plane.onAccepted(({ generation }) => {
        at.set(generation, performance.now());
        carriers.set(generation, carrier.includes('://') ? 'controller' : carrier);
      });
      if (overGossip) {
        plane.onTimestamp((timestamp) => void gossip.announce(timestamp).catch(() => {}));
        gossip.onAnnounce((timestamp, from) => plane.judgeAnnouncement(timestamp, from));
        gossip.serveConfig((request) => plane.serve(request));
      }
      await plane.start(new AbortController().signal);
      const made = { host, plane, carriers, at };
      hosts.set(host, made);
      return made;
    },
    async stop() {
      await Promise.all([...hosts.values()].map(({ plane }) => plane.stop()));
      for (const client of clients) client.close();
      await mesh.stop();
      await server.stop();
      await signed.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

async function serve(signed: SignedMesh, clock: Clock, direct: number | undefined) {
  const controller = createTestCa().controller('c1', ['127.0.0.1']);
  const sockets = new Set<{ readonly bytesWritten: number }>();
  let [bodies, empty, bodyBytes, closedBytes] = [0, 0, 0, 0];
  const server = createPublishServer({
    listen: { host: '127.0.0.1', port: 0 },
    tls: { cert: controller.chainPem, key: controller.privateKeyPem },
    log: silentLogger,
    register(fastify) {
      fastify.server.on('secureConnection', (socket) => {
        sockets.add(socket);
        socket.once('close', () => {
          closedBytes += socket.bytesWritten;
          sockets.delete(socket);
        });
      });
      fastify.addHook('onSend', async (_request, _reply, payload) => {
        const bytes = typeof payload === 'string' ? Buffer.byteLength(payload) : 0;
        if (bytes > 0) bodies += 1;
        else empty += 1;
        bodyBytes += bytes;
        return payload;
      });
      registerConfigRoutes(fastify, {
        signer: signed.signer,
        clock,
        maxWaitersPerAddress: 4096,
        ...(direct === undefined ? {} : { direct }),
      });
    },
  });
  await server.start(new AbortController().signal);
  return {
    url: `https://127.0.0.1:${server.port()}`,
    stop: () => server.stop(),
    served: (): Served => ({
      bodies,
      empty,
      bodyBytes,
      httpBytes: [...sockets].reduce((sum, socket) => sum + socket.bytesWritten, closedBytes),
    }),
  };
}

/** Waits until every one of `hosts` uses that generation. */
export function allHave(hosts: Iterable<ConfigHost>, generation: number, timeoutMs: number): Promise<number> {
  const all = [...hosts];
  return until(
    () => all.every(({ plane }) => plane.current()?.generation === generation),
    timeoutMs,
    () =>
      `generation ${generation}: ${all.map(({ host, plane }) => `${host}=${plane.current()?.generation}`).join(' ')}`,
  );
}

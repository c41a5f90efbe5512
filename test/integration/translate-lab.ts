import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FRUGAL } from '../../agent/envoy/bootstrap.ts';
import type { ResourceSet } from '../../agent/translate/resource-set.ts';
import { loadMessages } from '../../agent/xds/messages.ts';
import { createTestCa, type TestCa } from '../builders/test-ca.ts';
import { until } from '../fakes/until.ts';
import { TRUST_DOMAIN } from '../unit/agent/mesh-view/build-mesh.ts';
import { type Secrets, startAds, type TestAds } from './translate-ads.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const ENVOY = join(ROOT, 'build', 'envoy', 'envoy');
const DESCRIPTORS = join(ROOT, 'build', 'envoy', 'descriptors.pb');
const BRIDGE_RANGE = '10.66.0';
const BRIDGE_RANGE6 = 'fd66';

/** A host of the lab: its own namespace, Envoy with real xDS, and redirection by iptables. */
export interface LabHost {
  readonly id: string;
  readonly address: string;
  readonly address6: string;
  readonly ads: TestAds | undefined;
  /** An application under that uid; started when first asked for. */
  app(uid: number): App;
  /** GET on Envoy's admin socket. */
  admin(path: string): Promise<string>;
  readonly adminSocket: string;
  envoyLog(): string;
  /** Gives Envoy its resources and waits until it took or refused them all. */
  push(set: ResourceSet): Promise<void>;
}

/** What an application answers; see translate-app.ts. */
export interface Answer {
  readonly status?: number;
  readonly body?: string;
  readonly headers?: Record<string, string>;
  readonly error?: string;
  readonly received?: string;
  readonly messages?: number;
  readonly closed?: boolean;
  readonly connection?: number;
  readonly counts?: Record<string, number>;
  readonly ms?: number;
  readonly grpcStatus?: number;
  readonly from?: string;
  readonly head?: string;
  readonly rounds?: number;
  readonly size?: number;
}

export interface App {
  ask(command: { readonly do: string; readonly [key: string]: unknown }): Promise<Answer>;
}

/** How a host of the lab is wired: uids and where their connections go; ports that peers reach through the inbound listener. */
export interface HostSpec {
  readonly id: string;
  readonly envoy: boolean;
  readonly outbound?: Readonly<Record<number, number>>;
  readonly inbound?: readonly number[];
}

export interface Lab {
  host(id: string): LabHost;
  readonly ca: TestCa;
  close(): Promise<void>;
}

/** Brings up namespaces on one bridge. Needs root and the pinned Envoy. Every name and process is its own and goes with close(). */
export async function startLab(
  specs: readonly HostSpec[],
  secretsOf: (ca: TestCa, host: string) => Secrets,
): Promise<Lab> {
  const tag = `translate${process.pid}`;
  const dir = mkdtempSync(join(tmpdir(), 'translate-'));
  chmodSync(dir, 0o755);
  const ca = createTestCa(TRUST_DOMAIN);
  const undo: (() => unknown)[] = [() => rmSync(dir, { recursive: true, force: true })];
  const net = `${tag}-net`;
  const hosts = new Map<string, LabHost>();
  const close = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    addNamespace(net, undo);
    inNamespace(net, ['ip', 'link', 'add', 'br0', 'type', 'bridge']);
    inNamespace(net, ['ip', 'link', 'set', 'br0', 'up']);
    for (const [index, spec] of specs.entries()) {
      hosts.set(spec.id, await startHost({ tag, dir, net, ca, undo, secretsOf }, spec, index + 1));
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { host: (id) => hosts.get(id) as LabHost, ca, close };
}

interface LabContext {
  readonly tag: string;
  readonly dir: string;
  readonly net: string;
  readonly ca: TestCa;
  readonly undo: (() => unknown)[];
  readonly secretsOf: (ca: TestCa, host: string) => Secrets;
}

function addNamespace(name: string, undo: (() => unknown)[]): void {
  execFileSync('ip', ['netns', 'add', name]);
  undo.push(() => execFileSync('ip', ['netns', 'del', name]));
  inNamespace(name, ['ip', 'link', 'set', 'lo', 'up']);
}

function inNamespace(name: string, command: readonly string[]): string {
  return execFileSync('ip', ['netns', 'exec', name, ...command], { encoding: 'utf8' });
}

async function startHost(context: LabContext, spec: HostSpec, index: number): Promise<LabHost> {
  const { tag, dir, net, undo } = context;
  const namespace = `${tag}-${spec.id}`;
  const address = `${BRIDGE_RANGE}.${index}`;
  const address6 = `${BRIDGE_RANGE6}::${index}`;
  addNamespace(namespace, undo);
  wire(namespace, net, index, address, address6);
  redirect(namespace, spec);
  const home = join(dir, spec.id);
  mkdirSync(home);
  const ads = spec.envoy ? await startAds(join(home, 'xds.sock'), loadMessages(DESCRIPTORS)) : undefined;
  if (ads !== undefined) {
    undo.push(() => ads.close());
    ads.setSecrets(context.secretsOf(context.ca, spec.id));
    undo.push(startEnvoy(namespace, home, index));
    await until(() => existsSync(join(home, 'admin.sock')), 'Envoy to start', 20_000);
  }
  const apps = new Map<number, App>();
  return {
    id: spec.id,
    address,
    address6,
    ads,
    app(uid) {
      const app = apps.get(uid) ?? startApp(namespace, uid, undo);
      apps.set(uid, app);
      return app;
    },
    admin: (path) => adminGet(join(home, 'admin.sock'), path),
    adminSocket: join(home, 'admin.sock'),
    envoyLog: () => readFileSync(join(home, 'envoy.log'), 'utf8'),
    async push(set) {
      // A busy machine's Envoy may not have connected yet; for listeners it asks when its clusters are there.
      await until(() => ads?.asked('cluster'), 'Envoy to ask for clusters', 20_000);
      ads?.set(set);
      await until(() => ads?.asked('listener'), 'Envoy to ask for listeners', 20_000);
      await settle(ads as TestAds);
      const stats = () => adminGet(join(home, 'admin.sock'), '/stats?filter=^listener_manager.listener_');
      await until(async () => workerHasAll(await stats()), 'Envoy’s worker to serve what it acknowledged', 20_000);
    },
  };
}

function wire(namespace: string, net: string, index: number, address: string, address6: string): void {
  inNamespace(net, ['ip', 'link', 'add', `v${index}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace]);
  inNamespace(net, ['ip', 'link', 'set', `v${index}`, 'master', 'br0', 'up']);
  inNamespace(namespace, ['ip', 'addr', 'add', `${address}/24`, 'dev', 'eth0']);
  inNamespace(namespace, ['ip', 'addr', 'add', `${address6}/64`, 'dev', 'eth0', 'nodad']);
  inNamespace(namespace, ['ip', 'link', 'set', 'eth0', 'up']);
  inNamespace(namespace, ['ip', 'addr', 'add', '::6/128', 'dev', 'lo', 'preferred_lft', '0']);
  inNamespace(namespace, ['ip', 'route', 'add', '240.240.0.0/16', 'dev', 'lo']);
  inNamespace(namespace, ['ip', '-6', 'route', 'add', 'fd6d:6573:6800::/48', 'dev', 'lo']);
}

/** The part of DESIGN 4 that these tests need: the redirections themselves. Guards are agent/redirect's. */
function redirect(namespace: string, spec: HostSpec): void {
  const families = [
    { iptables: 'iptables', loopback: '127.0.0.0/8', inboundLeg: '127.0.0.6' },
    { iptables: 'ip6tables', loopback: '::1', inboundLeg: '::6' },
  ];
  for (const { iptables, loopback, inboundLeg } of families) {
    const rule = (...args: string[]) => inNamespace(namespace, [iptables, '-w', '-t', 'nat', '-A', ...args]);
    const proxy = ['-m', 'owner', '--uid-owner', '0'];
    rule('OUTPUT', '-s', inboundLeg, ...proxy, '-j', 'RETURN');
    for (const port of spec.inbound ?? []) {
      const toInbound = ['-p', 'tcp', '--dport', String(port), '-j', 'REDIRECT', '--to-ports', '15006'];
      rule('PREROUTING', ...toInbound);
      // a proxy meets its own host's workload as any other does: with mTLS
      rule('OUTPUT', '!', '-d', loopback, '-o', 'lo', ...proxy, ...toInbound);
    }
    for (const [uid, port] of Object.entries(spec.outbound ?? {})) {
      rule('OUTPUT', '-p', 'tcp', '-m', 'owner', '--uid-owner', uid, '-j', 'REDIRECT', '--to-ports', String(port));
    }
  }
}

function startEnvoy(namespace: string, home: string, index: number): () => Promise<void> {
  const bootstrap = {
    node: { id: `lab-${index}`, cluster: 'lab' },
    admin: { address: { pipe: { path: join(home, 'admin.sock') } } },
    ...FRUGAL,
    dynamic_resources: {
      ads_config: {
        api_type: 'DELTA_GRPC',
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
      },
      cds_config: { ads: {}, resource_api_version: 'V3' },
      lds_config: { ads: {}, resource_api_version: 'V3' },
    },
    static_resources: {
      clusters: [
        {
          name: 'xds',
          connect_timeout: '1s',
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
          load_assignment: {
            cluster_name: 'xds',
            endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: join(home, 'xds.sock') } } } }] }],
          },
        },
      ],
    },
  };
  writeFileSync(join(home, 'bootstrap.json'), JSON.stringify(bootstrap));
  const log = openSync(join(home, 'envoy.log'), 'a');
  const args = ['netns', 'exec', namespace, ENVOY, '-c', join(home, 'bootstrap.json'), '--concurrency', '1'];
  const child = spawn('ip', [...args, '--disable-hot-restart', '--drain-time-s', '3', '-l', 'warning'], {
    stdio: ['ignore', log, log],
  });
  return () => stop(child);
}

function startApp(namespace: string, uid: number, undo: (() => unknown)[]): App {
  const script = join(ROOT, 'test', 'integration', 'translate-app.ts');
  const args = [
    'netns',
    'exec',
    namespace,
    'setpriv',
    '--reuid',
    String(uid),
    '--regid',
    String(uid),
    '--clear-groups',
  ];
  const child = spawn('ip', [...args, process.execPath, script], { stdio: ['pipe', 'pipe', 'inherit'] });
  undo.push(() => stop(child));
  const waiting = new Map<number, (answer: Answer) => void>();
  // Who asks a dead application hears of it, instead of waiting for ever.
  child.once('exit', () => {
    for (const answer of waiting.values()) answer({ error: 'the application has ended' });
  });
  child.stdin.on('error', () => {});
  let buffer = '';
  child.stdout.on('data', (chunk) => {
    buffer += chunk;
    for (let end = buffer.indexOf('\n'); end >= 0; end = buffer.indexOf('\n')) {
      const answer = JSON.parse(buffer.slice(0, end)) as Answer & { id: number };
      buffer = buffer.slice(end + 1);
      waiting.get(answer.id)?.(answer);
      waiting.delete(answer.id);
    }
  });
  let next = 0;
  return {
    ask: (command) =>
      new Promise((resolve) => {
        const id = ++next;
        waiting.set(id, resolve);
        child.stdin.write(`${JSON.stringify({ id, ...command })}\n`);
      }),
  };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await exited;
}

function adminGet(socketPath: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    http
      .get({ socketPath, path }, (response) => {
        let body = '';
        response.on('data', (chunk) => (body += chunk));
        response.on('end', () => resolve(body));
      })
      .on('error', reject);
  });
}

/** Waits until nothing is pending in looks over 30 ms: a response can make Envoy ask for more. */
async function settle(ads: TestAds): Promise<void> {
  let since = performance.now();
  let seen = -1;
  await until(
    () => {
      if (!ads.idle() || ads.pushes.length !== seen) since = performance.now();
      seen = ads.pushes.length;
      return performance.now() - since > 30;
    },
    'Envoy to acknowledge',
    20_000,
  );
}

/** Envoy acknowledges a listener before its worker serves it. There is one worker: each listener added or changed is one of its successes. */
function workerHasAll(stats: string): boolean {
  const count = (name: string) => Number(new RegExp(`listener_${name}: (\\d+)`).exec(stats)?.[1] ?? Number.NaN);
  return count('create_success') === count('added') + count('modified');
}

/** Secrets of workloads, as the agent's SDS serves them. */
export function secretBodies(ca: TestCa, host: string, workloads: readonly (readonly [string, string])[]): Secrets {
  const bodies = new Map<string, object>([
    ['ROOTCA', { name: 'ROOTCA', validation_context: { trusted_ca: { inline_string: ca.intermediatePem } } }],
  ]);
  for (const [namespace, account] of workloads) {
    const name = `spiffe://${ca.trustDomain}/ns/${namespace}/sa/${account}`;
    const { chainPem, privateKeyPem } = ca.workload(namespace, account, host);
    bodies.set(name, {
      name,
      tls_certificate: {
        certificate_chain: { inline_string: chainPem },
        private_key: { inline_string: privateKeyPem },
      },
    });
  }
  return bodies;
}

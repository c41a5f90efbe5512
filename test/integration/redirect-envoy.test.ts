import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { applyRedirect, cleanRedirect } from '../../agent/redirect/apply.ts';
import { permit } from '../../agent/redirect/policy.ts';
import { buildPolicy, buildSpec, UID } from '../builders/redirect-spec.ts';
import { until } from '../fakes/until.ts';
import { join, openSpace, type Space } from './redirect-lab.ts';

const ENVOY = fileURLToPath(new URL('../../build/envoy/envoy', import.meta.url));
const TYPES = 'type.googleapis.com/envoy.extensions.filters';

/** Plain TCP through the listeners that the rules lead to: what redirection itself asks of Envoy (DESIGN 4), without TLS. */
function bootstrap(): string {
  const at = (address: string, port_value: number) => ({ socket_address: { address, port_value } });
  const listener = (name: string, addresses: string[], port: number, cluster: string) => ({
    name,
    address: at(addresses[0]!, port),
    additional_addresses: [{ address: at(addresses[1]!, port) }],
    listener_filters: [
      { name: 'original_dst', typed_config: { '@type': `${TYPES}.listener.original_dst.v3.OriginalDst` } },
    ],
    filter_chains: [
      {
        filters: [
          {
            name: 'tcp',
            typed_config: { '@type': `${TYPES}.network.tcp_proxy.v3.TcpProxy`, stat_prefix: name, cluster },
          },
        ],
      },
    ],
  });
  const cluster = (name: string, more: object) => ({
    name,
    type: 'ORIGINAL_DST',
    lb_policy: 'CLUSTER_PROVIDED',
    connect_timeout: '2s',
    ...more,
  });
  const source = (address: string) => ({ address, port_value: 0 });
  const bind = { source_address: source('127.0.0.6'), extra_source_addresses: [{ address: source('::6') }] };
  return JSON.stringify({
    static_resources: {
      listeners: [
        listener('web', ['127.0.0.1', '::1'], 15001, 'out'),
        listener('news', ['127.0.0.1', '::1'], 15100, 'out'),
        listener('inbound', ['0.0.0.0', '::'], 15006, 'in'),
      ],
      clusters: [cluster('out', {}), cluster('in', { upstream_bind_config: bind })],
    },
  });
}

async function startEnvoy(space: Space): Promise<ChildProcess> {
  const args = ['--config-yaml', bootstrap(), '--disable-hot-restart', '--concurrency', '1', '--log-level', 'error'];
  const user = ['setpriv', `--reuid=${UID.proxy}`, '--clear-groups'];
  const envoy = spawn('ip', ['netns', 'exec', space.name, ...user, ENVOY, ...args], { stdio: 'ignore' });
  const listening = async () => (await space.sockets.listeners()).filter((l) => l.uid === UID.proxy).length >= 6;
  await until(listening, 'Envoy to listen', 20_000);
  return envoy;
}

async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill(signal);
  await ended;
}

t.test('through a real Envoy: out, in, same host, both families; dead Envoy refuses and never lets pass', async (t) => {
  const host = openSpace('envoy');
  const peer = openSpace('envoy-peer');
  let envoy: ChildProcess | undefined;
  t.teardown(async () => {
    if (envoy) await stop(envoy, 'SIGKILL');
    await host.close();
    await peer.close();
  });
  join(host, peer);
  for (const port of [15053, 15054])
    for (const at of ['127.0.0.1', '::1']) {
      await host.listen(0, at, port, 'DNS');
      await host.listenUdp(0, at, port, 'DNS');
    }
  for (const at of ['0.0.0.0', '::']) {
    await host.listen(UID.web, at, 8080, 'WEB');
    await host.listen(UID.news, at, 9090, 'NEWS');
  }
  for (const at of ['10.9.0.2', 'fd09::2']) await peer.listen(UID.stranger, at, 80, 'PEER');
  envoy = await startEnvoy(host);
  const stateDir = `${t.testdir()}/state`;
  const deps = { exec: host.exec, sockets: host.sockets, stateDir, now: Date.now, procPath: host.procPath };
  const spec = permit(buildSpec(), buildPolicy());
  await applyRedirect(deps, spec, { agentUid: UID.agent, revertAfterMs: 0 });
  for (const [space, uid, to, port, wanted] of [
    [host, UID.web, '10.9.0.2', 80, /^PEER 10.9.0.2:80 from 10.9.0.1$/],
    [host, UID.web, 'fd09::2', 80, /^PEER fd09::2:80 from fd09::1$/],
    [host, UID.news, '10.9.0.1', 8080, /^WEB 10.9.0.1:8080 from 127.0.0.6$/],
    [host, UID.news, 'fd09::1', 8080, /^WEB fd09::1:8080 from ::6$/],
    [host, UID.web, '10.9.0.1', 8080, /^WEB .* from 127.0.0.6$/],
    [host, UID.stranger, '10.9.0.1', 8080, /^ECONNREFUSED$/],
    [peer, 0, '10.9.0.1', 8080, /^WEB 10.9.0.1:8080 from 127.0.0.6$/],
    [peer, 0, 'fd09::1', 9090, /^NEWS fd09::1:9090 from ::6$/],
    [peer, 0, '10.9.0.1', 15006, /^ECONNREFUSED$/],
  ] as const)
    t.match(await space.connect(uid, to, port), wanted, `uid ${uid} to ${to} port ${port}`);
  await stop(envoy, 'SIGKILL');
  for (const to of ['10.9.0.1', 'fd09::1']) t.equal(await peer.connect(0, to, 8080), 'ECONNREFUSED', `in, ${to}`);
  for (const to of ['10.9.0.2', 'fd09::2']) t.equal(await host.connect(UID.web, to, 80), 'ECONNREFUSED', `out, ${to}`);
  await t.rejects(
    applyRedirect(deps, permit(buildSpec({ dns: false }), buildPolicy()), { agentUid: UID.agent, revertAfterMs: 0 }),
    {
      code: 'REDIRECT_LISTENER',
    },
  );
  envoy = await startEnvoy(host);
  t.match(
    await peer.connect(0, '10.9.0.1', 8080),
    /^WEB .* from 127.0.0.6$/,
    'back, by the rules that stood all the time',
  );
  await cleanRedirect(deps);
  t.match(await peer.connect(0, '10.9.0.1', 8080), /^WEB .* from 10.9.0.2$/, 'without the mesh');
});

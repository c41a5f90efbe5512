// agent/xds against the real Envoy: what docs/decisions/0004-xds.md promises, seen from outside.

import { createServer } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { type Test, test } from 'tap';
import { type Json, TYPE_URLS, type XdsResource } from '../../agent/translate/resource-set.ts';
import { createTestCa } from '../builders/test-ca.ts';
import { cluster, endpoint, listener, policy, proxy, route } from '../builders/xds.ts';
import { until } from '../fakes/until.ts';
import { connects, DEADLINE_MS, fetchText, freePorts, openLab, persisted, startBackend, startLoad } from './xds-lab.ts';

/** A lab with an agent, an Envoy, a backend of that name and a listener's port. */
async function start(t: Pick<Test, 'after'>, ...backends: readonly string[]) {
  const undo: (() => unknown)[] = [];
  t.after(async () => {
    for (const fn of undo.reverse()) await fn();
  });
  const lab = await openLab((fn) => undo.push(fn));
  const ports = await freePorts(3);
  const to = await Promise.all(backends.map((name) => startBackend((fn) => undo.push(fn), name)));
  await lab.startAgent();
  return { lab, ports: ports as [number, number, number], to: to as [number, number], undo };
}

const body = (resource: XdsResource, patch: { readonly [key: string]: Json }): XdsResource => ({
  ...resource,
  body: { ...(resource.body as { readonly [key: string]: Json }), ...patch },
});

const addressed = (address: string, port_value: number): Json => [
  { lb_endpoints: [{ endpoint: { address: { socket_address: { address, port_value } } } }] },
];

/** A cluster that waits for nothing; what is no address is found only when it is applied, by when its neighbours were. */
const fixed = (name: string, address: string): XdsResource => ({
  ...cluster(name),
  body: {
    name,
    type: 'STATIC',
    connect_timeout: '1s',
    load_assignment: { cluster_name: name, endpoints: addressed(address, 9) },
  },
});

/** Envoy refuses two chains with one match, also only then. */
const twoAlike = (name: string, port: number): XdsResource => {
  const one = listener(name, port, { route: 'table' });
  const [chain] = (one.body as unknown as { filter_chains: Json[] }).filter_chains as [Json];
  return body(one, { filter_chains: [chain, chain] });
};

/** Everything that an HTTP service by way of `name` needs. */
const service = (name: string, port: number, to: number) => [
  cluster(name),
  endpoint(name, to),
  listener('http', port, { route: 'table', policy: 'policy' }),
  route('table', name),
  policy('policy', 'p'),
];

test('a start with warm endpoints: acknowledged means in force; names without a resource hold nothing back', async (t) => {
  const { lab, ports, to } = await start(t, 'one');
  const [http, empty, tcp] = ports;
  lab.set(
    ...service('a', http, to[0]),
    cluster('no-endpoints'),
    cluster('no-svid', '1s', 'spiffe://mesh.test/ns/x/sa/absent'),
    listener('no-table', empty, { route: 'absent' }),
    listener('tcp', tcp, { proxy: 'tcp' }),
    proxy('tcp', 'a'),
  );
  const began = performance.now();
  lab.startEnvoy();
  await lab.acknowledged('the first config');
  t.equal(await fetchText({ port: http }), 'one', 'the first request after the acknowledgement');
  t.equal(await fetchText({ port: tcp }), 'one', 'by way of the TCP proxy');
  t.ok(performance.now() - began < DEADLINE_MS, `${Math.round(performance.now() - began)} ms`);
  await t.rejects(fetchText({ port: empty }), { message: /^Error: 404|404/ }, 'an absent table is an empty one');
  t.equal(await lab.admin.ready(), true);
  t.strictSame(lab.xds().status().refused, []);
  t.strictSame(await lab.names('listeners'), ['http', 'no-table', 'tcp']);
  t.comment(`started and served after ${Math.round(performance.now() - began)} ms`);
});

test('changes under load: not one request fails', async (t) => {
  const { lab, ports, to } = await start(t, 'one', 'two');
  const [http, tcp] = ports;
  const config = (round: number): XdsResource[] => {
    const name = round % 2 === 0 ? 'even' : 'odd';
    const at = to[round % 2] as number;
    return [
      cluster(name, `${1 + (round % 5)}s`),
      endpoint(name, at),
      cluster('stays', `${1 + (round % 7)}s`),
      endpoint('stays', at),
      listener('http', http, { route: 'table', policy: 'policy' }),
      listener('tcp', tcp, { proxy: 'tcp' }),
      route('table', round % 3 === 0 ? 'stays' : name),
      policy('policy', `p${round}`),
      proxy('tcp', round % 3 === 1 ? 'stays' : name),
    ];
  };
  lab.set(...config(0));
  lab.startEnvoy();
  await lab.acknowledged('the first config');
  const loads = [startLoad(http, 4), startLoad(tcp, 2)];
  const times: number[] = [];
  for (let round = 1; round <= 30; round++) {
    times.push(await lab.push(...config(round)));
    t.equal(await fetchText({ port: http }), round % 2 === 0 ? 'one' : 'two', `round ${round}`);
  }
  for (let round = 31; round <= 60; round++) lab.set(...config(round)); // faster than Envoy answers
  await lab.acknowledged('the last config');
  for (const load of loads) await load.stop();
  for (const { answers, failures } of loads) {
    t.strictSame([...new Set(failures)], [], `of ${(answers.one ?? 0) + (answers.two ?? 0)} requests`);
    t.ok((answers.one ?? 0) > 10 && (answers.two ?? 0) > 10, 'the load saw both');
  }
  t.strictSame(await lab.names('clusters'), ['even', 'stays'], 'old clusters are gone');
  t.ok(Math.max(...times) < DEADLINE_MS, 'no cluster was left warming');
  times.sort((a, b) => a - b);
  t.comment(`ms to acknowledge: median ${times[15]?.toFixed(1)}, worst ${times.at(-1)?.toFixed(1)}`);
});

test('one bad among three of each type: it is named with Envoy’s words, its last good version stays', async (t) => {
  const { lab, ports, to } = await start(t, 'one', 'two');
  const names = ['a', 'bad', 'c'];
  const before = (): XdsResource[] =>
    names.flatMap((name, i) => [
      cluster(name),
      endpoint(name, to[0]),
      listener(name, ports[i] as number, { route: name, policy: name }),
      route(name, name),
      policy(name, 'p'),
    ]);
  lab.set(...before());
  lab.startEnvoy();
  await lab.acknowledged('the first config');
  const regex = (text: string): Json => [
    {
      name: 'all',
      domains: ['*'],
      routes: [{ match: { safe_regex: { regex: text } }, route: { cluster: 'a' } }],
    },
  ];
  const rbac = (any: boolean): Json => ({
    '@type': 'type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC',
    stat_prefix: any ? 'q' : '',
  });
  for (const { type, change } of [
    { type: 'cluster', change: (name: string) => ({ connect_timeout: name === 'bad' ? '-1s' : '2s' }) },
    {
      type: 'endpoint',
      change: (name: string) => ({ endpoints: addressed(name === 'bad' ? 'no-address' : '127.0.0.1', to[1]) }),
    },
    {
      type: 'listener',
      change: (name: string) => ({ listener_filters_timeout: name === 'bad' ? '-1s' : '2s' }),
    },
    { type: 'route', change: (name: string) => ({ virtual_hosts: regex(name === 'bad' ? '(' : '.*') }) },
    { type: 'extension', change: (name: string) => ({ typed_config: rbac(name !== 'bad') }) },
  ] as const) {
    const changed = before().map((one) => (one.type === type ? body(one, change(one.name)) : one));
    const ms = await lab.push(...changed);
    const { refused } = lab.xds().status();
    t.strictSame(
      refused.map(({ typeUrl, resource }) => [typeUrl, resource]),
      [[TYPE_URLS[type], 'bad']],
      `${type}: the bad one alone, after ${Math.round(ms)} ms`,
    );
    t.ok((refused[0]?.message.length ?? 0) > 0, `in these words: ${refused[0]?.message.slice(0, 100)}`);
    for (const port of ports) t.match(await fetchText({ port }), /one|two/, `${type}: all three serve`);
    if (type === 'endpoint') {
      t.strictSame(
        await Promise.all(ports.map((port) => fetchText({ port }))),
        ['two', 'one', 'two'],
        'good ones are new',
      );
    }
    t.strictSame(await lab.names('clusters'), names);
    await lab.push(...before());
    t.strictSame(lab.xds().status().refused, [], `${type}: taken back`);
  }
});

test('a refusal that passes: a port that was taken is had once it is free', async (t) => {
  const { lab, ports, to, undo } = await start(t, 'one');
  const [http, taken] = ports;
  const squatter = createServer();
  await new Promise<void>((resolve) => squatter.listen(taken, '127.0.0.1', resolve));
  undo.push(() => squatter.listening && new Promise((resolve) => squatter.close(resolve)));
  lab.set(...service('a', http, to[0]), listener('late', taken, { route: 'table' }));
  lab.startEnvoy();
  await lab.acknowledged('the rest');
  t.match(lab.xds().status().refused, [{ resource: 'late', message: /bind/ }]);
  t.equal(await fetchText({ port: http }), 'one', 'the other one serves');
  await new Promise((resolve) => squatter.close(resolve));
  await until(() => lab.xds().status().refused.length === 0, 'Envoy to be asked again', 10_000);
  t.equal(await fetchText({ port: taken }), 'one');
});

test('an agent that restarts: nothing equal is sent again, and what Envoy does not list is removed', async (t) => {
  const { lab, ports, to } = await start(t, 'one');
  const [http, left] = ports;
  const good = service('a', http, to[0]);
  lab.set(...good);
  lab.startEnvoy();
  await lab.acknowledged('the first config');
  const load = startLoad(http, 2);

  const restart = async (...resources: readonly XdsResource[]) => {
    await lab.stopAgent();
    await lab.startAgent();
    lab.set(...resources);
    await lab.acknowledged('the new agent’s config');
  };
  await restart(...good);
  t.strictSame(await lab.sent(), {}, 'not one resource');

  // Half of it is applied, and listed by nobody: the agent dies as Envoy's first refusal reaches it.
  for (const [type, of, half] of [
    ['cluster', 'clusters', [fixed('left', '127.0.0.1'), fixed('bad', 'no-address')]],
    ['listener', 'listeners', [listener('left', left, { route: 'table' }), twoAlike('bad', left)]],
  ] as const) {
    const died = lab.dieOnRefusal();
    lab.set(...good, ...half);
    await died;
    t.ok((await lab.names(of)).includes('left'), `the ${type} is there`);
    await restart(...good);
    t.strictSame(await lab.sent(), { [type]: 2 }, 'both were removed, nothing else was sent');
  }
  t.strictSame(await lab.names('clusters'), ['a']);
  t.strictSame(await lab.names('listeners'), ['http']);
  await until(async () => !(await connects(left)), 'the removed listener to be gone', DEADLINE_MS);
  t.strictSame(persisted(lab).everSent, { cluster: ['a'], listener: ['http'] });

  await lab.stopAgent();
  t.equal(await fetchText({ port: http }), 'one', 'no agent: Envoy goes on');
  await lab.startAgent();
  const began = performance.now();
  lab.set(...good.map((one) => (one.type === 'cluster' ? cluster('a', '9s') : one)));
  await lab.acknowledged('a cluster that changed meanwhile');
  t.ok(performance.now() - began < DEADLINE_MS, 'it was not left warming for its endpoints');
  t.strictSame(await lab.sent(), { cluster: 1, endpoint: 1 }, 'they came along, though equal');
  await load.stop();
  t.strictSame([...new Set(load.failures)], [], `of ${load.answers.one} requests over four restarts`);
});

test('an Envoy that restarts gets it all, and its last good versions', async (t) => {
  const { lab, ports, to } = await start(t, 'one');
  const good = service('a', ports[0], to[0]);
  lab.set(...good);
  lab.startEnvoy();
  await lab.acknowledged('the first config');
  await lab.push(...good.map((one) => (one.type === 'cluster' ? body(one, { connect_timeout: '-1s' }) : one)));
  t.match(lab.xds().status().refused, [{ resource: 'a' }]);
  await lab.stopEnvoy();
  await until(() => !lab.xds().status().connected, 'the stream to end');
  lab.startEnvoy();
  await lab.acknowledged('all of it');
  t.equal(await fetchText({ port: ports[0] }), 'one');
});

test('a change of endpoints touches EDS only, and of a policy ECDS only; no connection is dropped', async (t) => {
  const { lab, ports, to } = await start(t, 'one', 'two');
  const [http] = ports;
  const good = service('a', http, to[0]);
  lab.set(...good);
  lab.startEnvoy();
  await lab.acknowledged('the first config');
  const load = startLoad(http, 2);
  await lab.sent();
  await lab.push(...good.map((one) => (one.type === 'endpoint' ? endpoint('a', to[1]) : one)));
  t.strictSame(await lab.sent(), { endpoint: 1 });
  t.equal(await fetchText({ port: http }), 'two');
  await lab.push(...good.map((one) => (one.type === 'extension' ? policy('policy', 'q') : one)));
  t.strictSame(await lab.sent(), { endpoint: 1, extension: 1 });
  t.equal(await fetchText({ port: http }), 'one');
  await load.stop();
  t.strictSame(load.failures, []);
});

test('the rotation of a secret touches SDS only, and no open connection', async (t) => {
  const { lab, ports, to } = await start(t, 'one');
  const [tls] = ports;
  const ca = createTestCa();
  const svid = 'spiffe://mesh.test/ns/x/sa/y';
  const issue = () => {
    const identity = ca.workload('x', 'y', 'lab');
    lab.secrets.set(svid, { certificateChainPem: identity.chainPem, privateKeyPem: identity.privateKeyPem });
    return identity.leaf.fingerprint256;
  };
  const first = issue();
  lab.set(...service('a', tls, to[0]).map((one) => (one.type === 'listener' ? withTls(one, svid) : one)));
  lab.startEnvoy();
  await lab.acknowledged('the first config');
  const sockets = new Set<TLSSocket>();
  const served = async () => {
    const socket = await new Promise<TLSSocket>((resolve, reject) => {
      const opened = connectTls({ port: tls, host: '127.0.0.1', rejectUnauthorized: false }, () => resolve(opened));
      opened.on('error', reject);
    });
    sockets.add(socket);
    return socket;
  };
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  const open = await served();
  t.equal(open.getPeerX509Certificate()?.fingerprint256, first);
  await ask(open);
  await lab.sent();
  const second = issue();
  lab.rotated();
  await lab.acknowledged('the new SVID');
  t.strictSame(await lab.sent(), { secret: 1 });
  t.equal((await served()).getPeerX509Certificate()?.fingerprint256, second, 'new connections see the new one');
  t.match(await ask(open), /one$/, 'the open one goes on');
  t.notMatch(lab.envoyLog(), /PRIVATE KEY/);
  lab.secrets.set(svid, { certificateChainPem: 'broken', privateKeyPem: 'broken' });
  lab.rotated();
  await until(() => lab.xds().status().refused.length === 1, 'the broken one to be refused', DEADLINE_MS);
  t.equal((await served()).getPeerX509Certificate()?.fingerprint256, second, 'the last good one stays');
});

/** One keep-alive request on an open connection; resolves with what came. */
function ask(socket: TLSSocket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const take = (chunk: Buffer) => {
      text += chunk;
      if (!/\r\n\r\n.+/s.test(text)) return;
      socket.off('data', take);
      resolve(text);
    };
    socket.on('data', take);
    socket.once('close', () => reject(new Error('closed')));
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  });
}

function withTls(listener: XdsResource, secret: string): XdsResource {
  const chain = (listener.body as unknown as { filter_chains: { [key: string]: Json }[] }).filter_chains[0];
  const sds = { name: secret, sds_config: { ads: {}, resource_api_version: 'V3' } };
  const typed = {
    '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
    common_tls_context: { tls_certificate_sds_secret_configs: [sds] },
  };
  return body(listener, { filter_chains: [{ ...chain, transport_socket: { name: 'tls', typed_config: typed } }] });
}

// A workload's health probe on one host, its verdict at another: real HTTP, real gossip between two hosts, real records.
import http from 'node:http';
import { Registry } from 'prom-client';
import { test } from 'tap';
import { look } from '../../agent/workloads/probes/calls.ts';
import { probePlan } from '../../agent/workloads/probes/plan.ts';
import { createProber } from '../../agent/workloads/probes/prober.ts';
import { systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { until } from '../fakes/until.ts';
import { createTestMesh, GROUP } from './mesh.ts';

test('an unhealthy workload is known as such by its peers within a second of the threshold, and nothing is published without a change', async (t) => {
  t.setTimeout(300_000);
  const mesh = createTestMesh(2);
  t.teardown(() => mesh.stop());
  const server = await mesh.add('h0');
  const client = await mesh.add('h1');
  let status = 200;
  const web = http.createServer((_request, response) => response.writeHead(status).end());
  await new Promise<void>((resolve) => web.listen(0, server.address, resolve));
  t.teardown(() => web.close());
  const { port } = web.address() as { port: number };
  const plan = probePlan({
    httpGet: { port, path: '/healthz' },
    periodSeconds: 1,
    failureThreshold: 2,
  });
  const prober = createProber({
    look,
    ownership: () => ({ state: 'owned', probed: { port, loopback: false } }),
    address: () => server.address,
    known: new Map(),
    save: async () => {},
    clock: systemClock,
    log: silentLogger,
    registry: new Registry(),
  });
  let turnedAt = 0;
  let records = 0;
  const publish = () => {
    const workloads = [{ group: GROUP, health: prober.health(GROUP) }];
    return server.gossip.publishOwn({ network: 'default', addresses: [server.address], workloads });
  };
  prober.onChange(() => {
    turnedAt = performance.now();
    void publish();
  });
  prober.watch([{ group: GROUP, plan }]);
  await publish();
  const seen = () => client.gossip.snapshot().hosts.get('h0')?.record;
  const healthAtPeer = () => seen()?.workloads[0]?.health;
  await until(() => healthAtPeer() === 'unhealthy', 'the peer to hear of a workload that was not probed yet', 15_000);
  await prober.start(new AbortController().signal);
  t.teardown(() => prober.stop());
  await until(() => healthAtPeer() === 'healthy', 'the first success to reach the peer', 15_000);
  records = seen()?.counter ?? 0;

  status = 503;
  const broken = performance.now();
  await until(() => healthAtPeer() === 'unhealthy', 'the peer to hear of the failure', 10_000);
  const heard = performance.now();
  t.ok(turnedAt - broken >= 950, 'one failure is not yet two');
  t.ok(heard - turnedAt < 1000, `known ${Math.round(heard - turnedAt)} ms after the threshold`);
  t.equal(seen()?.counter, records + 1, 'one record a turn, none for the looks between');
  t.match(prober.problems(), [/probe failing: GET http:\/\/127\..*\/healthz: HTTP status 503 \(2 in a row\)/]);

  status = 200;
  await until(() => healthAtPeer() === 'healthy', 'the workload to be back', 10_000);
  t.equal(seen()?.counter, records + 2);
});

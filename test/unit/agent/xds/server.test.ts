import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, type ClientDuplexStream, credentials } from '@grpc/grpc-js';
import { Registry } from 'prom-client';
import { type Test, test } from 'tap';
import { TYPE_URLS } from '../../../../agent/translate/resource-set.ts';
import type { SecretMaterial } from '../../../../agent/xds/secrets.ts';
import { createXds, type XdsDeps } from '../../../../agent/xds/server.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { cluster, messages, resourceSet } from '../../../builders/xds.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';
import { until } from '../../../fakes/until.ts';

const METHOD = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
const REQUEST = 'envoy.service.discovery.v3.DeltaDiscoveryRequest';
const RESPONSE = 'envoy.service.discovery.v3.DeltaDiscoveryResponse';

interface Answer {
  type_url: string;
  nonce: string;
  resources?: { name: string }[];
  removed_resources?: string[];
}

async function start(t: Pick<Test, 'teardown'>, part: Partial<XdsDeps> = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'xs-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const socketPath = join(dir, 'x.sock');
  writeFileSync(socketPath, ''); // a left-over
  const secrets = new Map<string, SecretMaterial>();
  let rotated = () => {};
  const source = { get: (name: string) => secrets.get(name), onChange: (fn: () => void) => (rotated = fn) };
  const logged: string[] = [];
  const note = (message: string, fields?: object) => void logged.push(`${message} ${JSON.stringify(fields)}`);
  const log = { ...silentLogger, info: note, warn: note, error: note };
  const registry = new Registry();
  const paths = { socketPath, persistPath: join(dir, 'xds.json') };
  const xds = createXds({ messages, secrets: source, clock: createFakeClock(), log, registry, ...paths, ...part });
  await xds.start(new AbortController().signal);
  t.teardown(() => xds.stop());
  const client = new Client(`unix:${socketPath}`, credentials.createInsecure());
  t.teardown(() => client.close());
  const open = () => {
    const raw = (bytes: Buffer) => bytes;
    const call: ClientDuplexStream<Buffer, Buffer> = client.makeBidiStreamRequest(METHOD, raw, raw);
    const answers: Answer[] = [];
    const ends: unknown[] = [];
    call.on('data', (bytes: Buffer) => answers.push(messages.decodeResource(RESPONSE, bytes) as Answer));
    call.on('error', (error) => ends.push(error));
    const ask = (json: object) => call.write(Buffer.from(messages.encodeResource(REQUEST, json)));
    return { call, answers, ends, ask };
  };
  return { dir, socketPath, xds, open, secrets, rotated: () => rotated(), logged, registry, paths };
}

test('one Envoy: served, acknowledged, persisted, counted', async (t) => {
  const { xds, open, socketPath, paths, registry } = await start(t);
  t.equal(statSync(socketPath).mode & 0o777, 0o660);
  let told = 0;
  xds.onStatus(() => told++);
  t.match(xds.status(), { connected: false, ackedGeneration: 0, settled: false, pending: 0, refused: [] });
  xds.setResources(resourceSet(3, [cluster('a')]));
  const { ask, answers, call } = open();
  ask({ type_url: TYPE_URLS.cluster });
  const first = await until(() => answers[0], 'clusters');
  t.match(first, { type_url: TYPE_URLS.cluster, resources: [{ name: 'a' }] });
  t.ok(existsSync(paths.persistPath), 'the name is on disk before it is sent');
  t.match(xds.status(), { connected: true, ackedGeneration: 0, pending: 1 });
  ask({ type_url: TYPE_URLS.cluster, response_nonce: first.nonce });
  ask({ type_url: TYPE_URLS.listener });
  const second = await until(() => answers[1], 'listeners');
  ask({ type_url: TYPE_URLS.listener, response_nonce: second.nonce });
  await until(() => xds.status().settled, 'the acknowledgement');
  t.match(xds.status(), { ackedGeneration: 3, pending: 0 });
  t.ok(told > 0);
  t.match(await registry.metrics(), /mesh_agent_xds_streams 1[\s\S]*resources_sent_total\{type="cluster"\} 1/);
  call.end();
  await until(() => !xds.status().connected, 'the end of the stream');
});

test('what is no request ends that stream alone; streams are bounded', async (t) => {
  const { xds, open } = await start(t);
  xds.setResources(resourceSet(1, [cluster('a')]));
  const broken = open();
  broken.call.write(Buffer.from([0x17]));
  await until(() => broken.ends[0], 'the broken stream to end');
  const four = [open(), open(), open(), open()];
  for (const { ask } of four) ask({ type_url: TYPE_URLS.cluster });
  await until(() => four.every(({ answers }) => answers.length === 1), 'four streams to be served');
  const fifth = open();
  t.match(await until(() => fifth.ends[0], 'the fifth to be refused'), { code: 8 });
  four[0]?.call.cancel();
  const again = await until(async () => {
    const next = open();
    next.ask({ type_url: TYPE_URLS.cluster });
    await until(() => next.answers.length + next.ends.length > 0, 'a word');
    return next.answers.length > 0;
  }, 'another one in its place');
  t.equal(again, true);
  for (const { call } of four.slice(1)) call.cancel();
});

test('a secret that cannot be encoded costs no stream', async (t) => {
  const { xds, open, secrets, logged } = await start(t);
  xds.setResources(resourceSet(1, [cluster('a')]));
  secrets.set('odd', { trustedCaPem: 'x', validation: { typo: 1 } });
  const { ask, answers } = open();
  ask({ type_url: TYPE_URLS.secret, resource_names_subscribe: ['odd'] });
  t.strictSame((await until(() => answers[0], 'an answer')).removed_resources, ['odd']);
  t.match(logged.join(), /cannot encode a secret .*odd/);
});

test('a key is sent to Envoy and told to nobody else', async (t) => {
  const { xds, open, secrets, rotated, logged } = await start(t);
  xds.setResources(resourceSet(1, []));
  const { ask, answers } = open();
  ask({ type_url: TYPE_URLS.secret, resource_names_subscribe: ['svid'] });
  t.strictSame((await until(() => answers[0], 'an answer')).removed_resources, ['svid'], 'none yet');
  secrets.set('svid', { certificateChainPem: 'chain', privateKeyPem: 'the-key' });
  rotated();
  const given = await until(() => answers[1], 'the secret');
  t.match(JSON.stringify(given), 'the-key');
  ask({ type_url: TYPE_URLS.secret, response_nonce: given.nonce, error_detail: { message: 'no' } });
  await until(() => xds.status().refused.length === 1, 'the refusal');
  t.notMatch(JSON.stringify([xds.status(), logged]), 'the-key');
  t.match(logged.join(), 'envoy refused');
});

test('a socket that cannot be made is named', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'xs-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  await t.rejects(start(t, { socketPath: join(dir, 'none', 'x.sock') }), {
    code: 'XDS_LISTEN',
    message: /none\/x\.sock/,
  });
});

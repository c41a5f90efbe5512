/** A real kubectl (scripts/fetch-kubectl) against the REST API over TLS with a token: what operators do all day. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { createWorldCa } from '../builders/server-certificate.ts';
import { until } from '../fakes/until.ts';
import { type Harness, startRest } from '../unit/controller/rest/harness.ts';

const KUBECTL = resolve('build/kubectl/bin/kubectl');
execFileSync('scripts/fetch-kubectl', { stdio: 'inherit' });

type Tap = typeof t;

interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

interface Kube {
  readonly folder: string;
  run(args: readonly string[], options?: { env?: Record<string, string>; input?: string }): Promise<Run>;
  /** Fails the test unless it exits 0; gives stdout. */
  ok(args: readonly string[], options?: { env?: Record<string, string>; input?: string }): Promise<string>;
  file(name: string, text: string): string;
  start(args: readonly string[]): { child: ChildProcess; out: () => string; stop: () => Promise<void> };
}

function kubeFor(t: Pick<Tap, 'equal'>, h: Harness): Kube {
  const { folder } = h;
  const config = join(folder, 'kubeconfig');
  writeFileSync(config, kubeconfig(h), { mode: 0o600 });
  const base = ['--kubeconfig', config, '--cache-dir', join(folder, 'cache'), '--request-timeout', '10s'];
  const env = { PATH: process.env.PATH ?? '', HOME: folder };
  const run: Kube['run'] = (args, options = {}) =>
    new Promise((resolve) => {
      const child = execFile(
        KUBECTL,
        [...base, ...args],
        { env: { ...env, ...options.env }, timeout: 30_000 },
        (error, out, err) => resolve({ code: error === null ? 0 : Number(error.code ?? 1), out, err }),
      );
      child.stdin?.end(options.input ?? '');
    });
  return {
    folder,
    run,
    async ok(args, options) {
      const result = await run(args, options);
      t.equal(result.code, 0, `kubectl ${args.join(' ')}${result.code === 0 ? '' : `: ${result.err}`}`);
      return result.out;
    },
    file(name, text) {
      const path = join(folder, name);
      writeFileSync(path, text);
      return path;
    },
    start(args) {
      const child = spawn(KUBECTL, [...base.slice(0, 4), ...args], { env, stdio: ['ignore', 'pipe', 'inherit'] });
      let text = '';
      child.stdout.on('data', (chunk) => {
        text += chunk;
      });
      const exited = once(child, 'exit');
      const stop = async () => {
        child.kill();
        await exited;
      };
      return { child, out: () => text, stop };
    },
  };
}

function kubeconfig(h: Harness): string {
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name: 'mesh',
        cluster: {
          server: `https://127.0.0.1:${h.rest.port()}`,
          'certificate-authority-data': Buffer.from(h.ca).toString('base64'),
        },
      },
    ],
    users: [{ name: 'root', user: { token: h.adminToken } }],
    contexts: [{ name: 'mesh', context: { cluster: 'mesh', user: 'root', namespace: 'shop' } }],
    'current-context': 'mesh',
  };
  return JSON.stringify(config);
}

const SERVICE = `apiVersion: v1
kind: Service
metadata: {name: reviews}
spec:
  ports:
  - {name: http, port: 9080}
  selector: {app: reviews}
`;
const route = (weight: number) => `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews, subset: v1}
      weight: ${weight}
    - destination: {host: reviews, subset: v2}
      weight: ${100 - weight}
`;

t.test('create, get, apply twice, patch, edit, diff, delete', async (t) => {
  const h = await startRest(t);
  const k = kubeFor(t, h);
  const service = k.file('service.yaml', SERVICE);
  const vs = k.file('vs.yaml', route(80));
  t.match(await k.ok(['create', '-f', service]), 'service/reviews created');
  t.match((await k.run(['create', '-f', service])).err, 'already exists');
  t.match(await k.ok(['apply', '-f', vs]), 'virtualservice.networking.istio.io/reviews created');
  t.match(await k.ok(['apply', '-f', vs]), 'reviews unchanged');
  t.match(await k.ok(['get', 'vs']), /NAME +GATEWAYS +HOSTS +AGE\nreviews +reviews +\d+s/);
  t.match(await k.ok(['get', 'vs', '-A']), /NAMESPACE +NAME.*\nshop +reviews/);
  t.match(await k.ok(['get', 'vs', 'reviews', '-o', 'yaml']), /weight: 80[\s\S]*weight: 20/);
  t.equal(await k.ok(['get', 'vs', '-o', 'name']), 'virtualservice.networking.istio.io/reviews\n');
  t.match(await k.ok(['get', 'istio-io']), 'reviews');
  const changed = k.file('vs2.yaml', route(60));
  const diff = await k.run(['diff', '-f', changed]);
  t.equal(diff.code, 1, 'diff tells by its code that there is one');
  t.match(diff.out, /-\s+weight: 80\n\+\s+weight: 60/);
  t.match(await k.ok(['apply', '-f', changed, '--dry-run=server']), 'configured (server dry run)');
  t.match(await k.ok(['get', 'vs', 'reviews', '-o', 'jsonpath={.spec.http[0].route[0].weight}']), '80');
  t.match(await k.ok(['apply', '-f', changed]), 'configured');
  t.equal((await k.run(['diff', '-f', changed])).code, 0);
  await k.ok(['patch', 'vs', 'reviews', '--type=merge', '-p', '{"spec":{"hosts":["reviews","ratings"]}}']);
  await k.ok(['patch', 'vs', 'reviews', '--type=json', '-p', '[{"op":"remove","path":"/spec/hosts/1"}]']);
  t.equal(await k.ok(['get', 'vs', 'reviews', '-o', 'jsonpath={.spec.hosts}']), '["reviews"]');
  await k.ok(['label', 'vs', 'reviews', 'team=a']);
  t.match(await k.ok(['get', 'vs', '-l', 'team=a', '-o', 'name']), 'reviews');
  t.equal(await k.ok(['get', 'vs', '-l', 'team=b', '-o', 'name']), '');
  await k.ok(['replace', '-f', vs]);
  t.match(await k.ok(['describe', 'vs', 'reviews']), /Name: +reviews[\s\S]*Events: +<none>/);
  t.match(await k.ok(['delete', 'vs', 'reviews', '--dry-run=server']), 'server dry run');
  await k.ok(['get', 'vs', 'reviews']);
  t.match(await k.ok(['delete', 'vs', 'reviews']), 'deleted');
  t.match((await k.run(['get', 'vs', 'reviews'])).err, 'NotFound');
});

t.test('edit, and strategic merge on a core kind', async (t) => {
  const h = await startRest(t);
  const k = kubeFor(t, h);
  const service = k.file('service.yaml', SERVICE);
  await k.ok(['apply', '-f', service]);
  t.match(await k.ok(['apply', '-f', service]), 'unchanged');
  const more = k.file('more.yaml', SERVICE.replace('  selector', '  - {name: tcp, port: 9000}\n  selector'));
  t.match(await k.ok(['apply', '-f', more]), 'configured');
  t.equal(await k.ok(['get', 'svc', 'reviews', '-o', 'jsonpath={.spec.ports[*].port}']), '9080 9000');
  t.match(await k.ok(['apply', '-f', service]), 'configured', 'a port goes by its merge key');
  t.equal(await k.ok(['get', 'svc', 'reviews', '-o', 'jsonpath={.spec.ports[*].port}']), '9080');
  const editor = k.file('editor', '#!/bin/sh\nsed -i s/9080/9081/ "$1"\n');
  chmodSync(editor, 0o755);
  t.match(await k.ok(['edit', 'svc', 'reviews'], { env: { KUBE_EDITOR: editor } }), 'edited');
  t.equal(await k.ok(['get', 'svc', 'reviews', '-o', 'jsonpath={.spec.ports[*].port}']), '9081');
});

t.test('wait and watch see what happens', async (t) => {
  const h = await startRest(t);
  const k = kubeFor(t, h);
  await k.ok(['apply', '-f', k.file('vs.yaml', route(80))]);
  let watches = 0;
  h.rest.server.server.on('request', ({ url }) => {
    if (/virtualservices\?.*watch=/.test(url ?? '')) watches++;
  });
  const watch = k.start(['get', 'vs', '-w', '--output-watch-events']);
  t.teardown(watch.stop);
  await until(() => watch.out().includes('ADDED'), 'the first event', 30_000);
  const deleted = k.ok(['wait', '--for=delete', 'vs/reviews', '--timeout=60s']);
  const labelled = k.ok(['wait', '--for=jsonpath={.metadata.labels.team}=a', 'vs/reviews', '--timeout=60s']);
  // A wait that begins when all has happened waits for nothing, and says so by silence.
  await until(() => watches === 3, 'all three to watch', 30_000);
  await k.ok(['label', 'vs', 'reviews', 'team=a']);
  t.match(await labelled, 'condition met');
  await until(() => watch.out().includes('MODIFIED'), 'the change', 30_000);
  await k.ok(['delete', 'vs', 'reviews', '--wait=true']);
  t.match(await deleted, 'condition met');
  await until(() => watch.out().includes('DELETED'), 'the deletion', 30_000);
});

t.test('discovery, explain, namespaces, auth and refusals', async (t) => {
  const h = await startRest(t);
  const k = kubeFor(t, h);
  const resources = await k.ok(['api-resources']);
  for (const name of [
    'virtualservices',
    'destinationrules',
    'peerauthentications',
    'namespaces',
    'meshconfigs',
    'hosts',
  ])
    t.match(resources, new RegExp(`^${name} `, 'm'));
  t.match(await k.ok(['api-versions']), 'networking.istio.io/v1');
  t.match(await k.ok(['version']), /Server Version: v1\.37\.0/);
  t.match(await k.ok(['explain', 'virtualservice.spec.http']), /KIND: +VirtualService[\s\S]*retries/);
  t.match(await k.ok(['explain', 'meshconfig.spec']), 'outboundTrafficPolicy');
  t.match(await k.ok(['create', 'namespace', 'books']), 'namespace/books created');
  t.match(await k.ok(['create', 'serviceaccount', 'cart', '-n', 'books']), 'created');
  t.match(await k.ok(['get', 'ns']), /books[\s\S]*default[\s\S]*istio-system/);
  t.match(await k.ok(['delete', 'ns', 'books']), 'deleted');
  t.match((await k.run(['get', 'sa', 'cart', '-n', 'books'])).err, 'NotFound', 'with all that is in it');
  t.match(await k.ok(['auth', 'can-i', 'create', 'vs']), 'yes');
  t.match(await k.ok(['auth', 'whoami']), 'root');
  t.match(await k.ok(['auth', 'can-i', '--list']), 'virtualservices');
  await k.ok(['get', 'events']);
  t.match(await k.ok(['get', 'hosts']), /NAME[\s\S]*a[\s\S]*shop\/cart/);
  const unknown = await k.run(['apply', '-f', k.file('bad.yaml', route(80).replace('hosts:', 'hosst:'))]);
  t.match(unknown.err, 'unknown field "spec.hosst"');
  const weights = await k.run(['create', '-f', k.file('bad2.yaml', route(80).replace('weight: 80', 'weight: -1'))]);
  t.match(weights.err, /spec\.http\[0\]\.route\[0\]\.weight/);
  const sideApply = await k.run(['apply', '--server-side', '-f', k.file('vs.yaml', route(80))]);
  t.match(sideApply.err, 'server-side apply is not served');
});

t.test('secrets: made, applied again and again, changed, and never shown', async (t) => {
  const h = await startRest(t);
  const k = kubeFor(t, h);
  const ca = createWorldCa();
  const [one, two] = [ca.issue({ dnsNames: ['one'] }), ca.issue({ dnsNames: ['two'] })];
  const files = (name: string, { certPem, keyPem }: typeof one) => [
    `--cert=${k.file(`${name}.pem`, certPem)}`,
    `--key=${k.file(`${name}.key`, keyPem)}`,
  ];
  const manifest = async (pair: typeof one) =>
    k.file(
      'secret.yaml',
      await k.ok(['create', 'secret', 'tls', 'web', ...files('m', pair), '--dry-run=client', '-o', 'yaml']),
    );
  const needles = [one, two].flatMap(({ keyPem }) => [
    keyPem.split('\n')[1] as string,
    Buffer.from(keyPem).toString('base64').slice(40, 90),
  ]);
  const shown: string[] = [];
  const see = async (args: readonly string[]) => {
    const { out, err } = await k.run(args);
    shown.push(out, err);
    return out + err;
  };
  t.match(await k.ok(['create', 'secret', 'tls', 'made', ...files('one', one)]), 'secret/made created');
  t.match(await see(['apply', '-f', await manifest(one)]), 'secret/web created');
  const version = () => k.ok(['get', 'secret', 'web', '-o', 'jsonpath={.metadata.resourceVersion}']);
  const first = await version();
  t.match(await see(['apply', '-f', await manifest(one)]), /secret\/web (configured|unchanged)/);
  t.equal(await version(), first, 'the same again changes nothing');
  t.match(await see(['apply', '-f', await manifest(two)]), 'secret/web configured');
  t.not(await version(), first);
  t.match(await see(['get', 'secrets']), /made +kubernetes.io\/tls/);
  t.match(await see(['get', 'secret', 'web', '-o', 'yaml']), 'tls.key: KGhpZGRlbik=');
  t.match(await see(['describe', 'secret', 'web']), /tls.key: +8 bytes/);
  await see(['diff', '-f', await manifest(one)]);
  t.match(await see(['label', 'secret', 'web', 'team=a']), 'labeled');
  const { out } = await k.run(['get', 'secret', 'web', '-o', 'yaml']);
  t.match(await see(['replace', '-f', k.file('read.yaml', out)]), 'secret/web replaced');
  const wrong = await see(['create', 'secret', 'tls', 'wrong', ...files('w', { ...one, keyPem: two.keyPem })]);
  t.match(wrong, /does not match|does not fit/);
  const bare = shown.filter((text) => !text.startsWith('diff '));
  t.same(
    needles.filter((needle) => bare.join('\n').includes(needle)),
    [],
  );
});

import { join } from 'node:path';
import tap from 'tap';
import { KINDS, resourcePath } from '../../../api/resources/registry.ts';
import { type Answer, fakeController, run } from './harness.ts';

const SERVICE =
  'apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  selector: {app: a}\n  ports: [{name: http, port: 80}]\n';
const BAD = SERVICE.replace('port: 80', 'prt: 80');
const ROUTE =
  'apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  - route:\n    - destination:\n        host: b\n';
const GROUP = {
  apiVersion: 'networking.istio.io/v1',
  kind: 'WorkloadGroup',
  metadata: { name: 'a', namespace: 'default' },
  spec: { metadata: { labels: { app: 'a' } }, template: { ports: { http: 80 } } },
};
const STORED = {
  apiVersion: 'networking.istio.io/v1',
  kind: 'VirtualService',
  metadata: { name: 'v', namespace: 'default' },
  spec: { hosts: ['a'], http: [{ route: [{ destination: { host: 'nobody' } }] }] },
};

/** A controller that holds these objects, for whoever may list all namespaces. */
function mesh(objects: readonly { kind: string }[]): Record<string, Answer> {
  const answers: Record<string, Answer> = { 'GET /apis/hostmesh.io/v1/hosts': [200, { items: [] }] };
  for (const info of KINDS.filter((one) => one.stored))
    answers[`GET ${resourcePath(info)}`] = [200, { items: objects.filter(({ kind }) => kind === info.kind) }];
  return answers;
}

tap.test('files by themselves: offline, with line and column, warnings where more may be elsewhere', async (t) => {
  const dir = t.testdir({ 'good.yaml': SERVICE, 'bad.yaml': BAD, 'route.yaml': ROUTE });
  const good = await run(['analyze', '-f', join(dir, 'good.yaml'), join(dir, 'route.yaml')]);
  t.equal(good.code, 0);
  t.match(
    good.out,
    /good.yaml:5:3: warning \[HM0013\]: Service a: spec.selector: no WorkloadGroup or WorkloadEntry in these files/,
  );
  t.match(good.out, /route.yaml:9:9: warning \[IST0101\]: VirtualService a: .*host: host b.* in these files has it/);
  t.match(good.err, /0 errors, 2 warnings in these files by themselves; with --live/);
  const bad = await run(['analyze', '-f', join(dir, 'bad.yaml'), '-o', 'json']);
  t.equal(bad.code, 1);
  t.match(JSON.parse(bad.out), {
    kind: 'Analysis',
    findings: [{ severity: 'error', code: 'HM0001', path: 'spec.ports[0].prt', at: /bad\.yaml:6:24$/ }],
  });
  const twice = await run(['analyze', '-f', join(dir, 'good.yaml'), join(dir, 'good.yaml')]);
  t.match(twice, { code: 1, out: /the same object is in .*good.yaml:3:12 already/ });
});

tap.test('files beside the mesh', async (t) => {
  const { env, home } = await fakeController(t, mesh([GROUP]));
  const { writeFile } = await import('node:fs/promises');
  await writeFile(join(home, 'a.yaml'), SERVICE);
  await writeFile(join(home, 'route.yaml'), ROUTE);
  const alone = await run(['analyze', '-f', join(home, 'a.yaml'), '--live'], { env });
  t.same(alone, { code: 0, out: '', err: 'no problems found in these files beside the live mesh' });
  const route = await run(['analyze', '-f', join(home, 'route.yaml'), '--live'], { env });
  t.match(route, { code: 1, out: /route.yaml:9:9: error \[IST0101\].*no Service or ServiceEntry in the mesh has it/ });
});

tap.test('the live mesh: errors first, by the lines of the stored objects', async (t) => {
  const { env } = await fakeController(t, mesh([GROUP, STORED]));
  const done = await run(['analyze'], { env });
  t.equal(done.code, 1);
  const [first = '', ...more] = done.out.split('\n');
  t.match(
    first,
    /^VirtualService\/default\/v:12:13: error \[IST0101\]: VirtualService\/default\/v: spec\.http\[0\]\.route\[0\]\.destination\.host/,
  );
  t.ok(more.some((line) => line.includes('[HM0016]') && line.includes('no host may run it')));
  t.match((await run(['analyze', '-n', 'other'], { env })).err, /no problems found in the live mesh/);
});

tap.test('a principal of one namespace checks that one', async (t) => {
  const answers: Record<string, Answer> = {};
  for (const info of KINDS.filter((one) => one.stored)) {
    answers[`GET ${resourcePath(info)}`] = [403, { message: 'no' }];
    if (info.namespaced)
      answers[`GET ${resourcePath(info, 'default')}`] = [
        200,
        { items: info.kind === 'VirtualService' ? [STORED] : [] },
      ];
  }
  const { env } = await fakeController(t, answers);
  t.match(await run(['analyze'], { env }), { code: 1, err: /error: no/ });
  t.match(
    await run(['analyze', '-n', 'default'], { env }),
    { code: 0, out: /warning \[IST0101\]/ },
    'what it cannot see may be there',
  );
});

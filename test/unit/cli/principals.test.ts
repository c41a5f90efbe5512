import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import tap from 'tap';
import { parseCsr } from '../../../api/identity/x509.ts';
import { fakeController, run } from './harness.ts';

const PATH = '/apis/hostmesh.io/v1/principals';

tap.test('principals: list, tokens, certificates, delete', async (t) => {
  const { env, seen, home } = await fakeController(t, {
    [`GET ${PATH}`]: [
      200,
      {
        items: [
          { name: 'ann', role: 'namespace', namespaces: ['a', 'b'], verbs: ['get'], credential: 'token' },
          { name: 'root', role: 'admin', namespaces: [], credential: 'certificate' },
        ],
      },
    ],
    [`POST ${PATH}`]: [201, { name: 'ann', token: 'ann.secret', certificate: 'CHAIN' }],
    [`PUT ${PATH}/ann`]: [200, { name: 'ann', token: 'ann.new' }],
    [`DELETE ${PATH}/ann`]: [200, {}],
  });
  t.match(
    (await run(['principals', 'list'], { env })).out,
    /^NAME +ROLE +NAMESPACES +VERBS +CREDENTIAL\nann +namespace +a,b +get +token\nroot +admin +\* +\* +certificate$/,
  );
  const made = await run(['principals', 'create', 'ann', '-n', 'a', '-n', 'b', '--verb', 'get'], { env });
  t.match(made, { code: 0, out: 'ann.secret' });
  t.notMatch(made.err, 'secret');
  t.match(seen.at(-1)?.body, { name: 'ann', role: 'namespace', namespaces: ['a', 'b'], verbs: ['get'] });
  t.match(await run(['principals', 'create', 'ann', '--admin', '--replace'], { env }), { code: 0, out: 'ann.new' });
  const files = ['--cert-out', join(home, 'ann.pem'), '--key-out', join(home, 'ann.key')];
  t.match(await run(['principals', 'create', 'ann', '--admin', ...files], { env }), { code: 0, out: '' });
  t.equal(readFileSync(join(home, 'ann.pem'), 'utf8'), 'CHAIN');
  t.match(readFileSync(join(home, 'ann.key'), 'utf8'), /PRIVATE KEY/);
  t.equal(statSync(join(home, 'ann.key')).mode & 0o777, 0o600);
  const { csr } = (seen.at(-1)?.body ?? {}) as { csr: string };
  t.ok(parseCsr(csr));
  t.notMatch(csr, 'PRIVATE');
  t.match(
    await run(['principals', 'create', 'ann', '--admin', ...files], { env }),
    { code: 1, err: /cannot write/ },
    'no key is overwritten',
  );
  t.match(await run(['principals', 'delete', 'ann'], { env }), { code: 0, out: 'principal/ann deleted' });
  for (const wrong of [
    ['create', 'x'],
    ['create', 'x', '--admin', '-n', 'a'],
    ['create', 'x', '--admin', '--key-out', 'k'],
    ['delete'],
  ])
    t.equal((await run(['principals', ...wrong], { env })).code, 64, wrong.join(' '));
});

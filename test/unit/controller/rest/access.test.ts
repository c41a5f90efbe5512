import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import t from 'tap';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { type AuditLine, createAudit, firstBrokenLine } from '../../../../controller/rest/audit.ts';
import { ownerOf, ownershipRefusal } from '../../../../controller/rest/authorize.ts';
import { putPrincipal, removePrincipal } from '../../../../controller/rest/principals.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { SE, selfMade, serviceEntry, startRest, VS, virtualService } from './harness.ts';

const OTHER = VS.replace('/shop/', '/other/');
const ROOT = VS.replace('/shop/', '/istio-system/');

t.test('no credential, a wrong one, a removed one: 401; too many: 429; the right one is never held up', async (t) => {
  const h = await startRest(t);
  const bare = (authorization?: string) =>
    h.rest.server.inject({ method: 'GET', url: VS, headers: authorization === undefined ? {} : { authorization } });
  t.equal((await h.rest.server.inject({ method: 'GET', url: '/livez' })).statusCode, 200);
  t.equal((await h.rest.server.inject({ method: 'GET', url: '/readyz' })).statusCode, 200);
  for (const wrong of [
    undefined,
    'Bearer',
    'Bearer x',
    'Bearer root.wrong',
    `Bearer ${h.adminToken}x`,
    'Basic cm9vdDp4',
  ])
    t.equal((await bare(wrong)).statusCode, 401, String(wrong).slice(0, 12));
  const token = await putPrincipal(h.store, { name: 'gone', role: 'admin', namespaces: [] });
  t.equal((await bare(`Bearer ${token}`)).statusCode, 200);
  const renewed = await putPrincipal(h.store, { name: 'gone', role: 'admin', namespaces: [] });
  t.equal((await bare(`Bearer ${token}`)).statusCode, 401, 'the token before is dead');
  t.equal((await bare(`Bearer ${renewed}`)).statusCode, 200);
  t.equal(await removePrincipal(h.store, 'gone'), true);
  t.equal((await bare(`Bearer ${renewed}`)).statusCode, 401);
  const codes: number[] = [];
  for (let i = 0; i < 30; i++) codes.push((await bare('Bearer root.guess')).statusCode);
  t.ok(codes.includes(429));
  t.equal((await bare(`Bearer ${h.adminToken}`)).statusCode, 200);
  await h.clock.advance(10_000);
  t.equal((await bare('Bearer root.guess')).statusCode, 401, 'the limit recovers');
});

t.test('an operator’s client certificate counts; a host’s of the same CA does not', async (t) => {
  const pki = selfMade();
  const foreign = selfMade();
  const h = await startRest(t, { tls: pki, clientCa: [pki.ca] });
  await putPrincipal(h.store, { name: 'ann', role: 'admin', namespaces: [] });
  const ask = (client?: { cert: string; key: string }) =>
    new Promise<number>((resolve, reject) => {
      const outgoing = request(
        { host: '127.0.0.1', port: h.rest.port(), ca: pki.ca, path: '/version', agent: false, ...client },
        (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        },
      );
      outgoing.once('error', reject);
      outgoing.end();
    });
  t.equal(await ask(pki.issue('spiffe://mesh.test/operator/ann')), 200);
  t.equal(await ask(), 401);
  t.equal(await ask(pki.issue('spiffe://mesh.test/operator/bob')), 401, 'no such principal');
  t.equal(await ask(pki.issue('spiffe://mesh.test/host/ann')), 401);
  t.equal(await ask(pki.issue('spiffe://mesh.test/ns/operator/sa/ann')), 401);
  t.equal(await ask(pki.issue('spiffe://other.test/operator/ann')), 401);
  t.equal(await ask(foreign.issue('spiffe://mesh.test/operator/ann')), 401, 'another CA');
});

t.test('a namespace principal keeps to its namespaces and verbs', async (t) => {
  const h = await startRest(t);
  await h.send('POST', OTHER, virtualService('theirs'));
  const ours = await h.as({});
  t.equal((await ours('POST', VS, virtualService('mine'))).code, 201);
  t.equal((await ours('GET', VS)).code, 200);
  const refused: [string, string, unknown?][] = [
    ['GET', OTHER],
    ['GET', `${OTHER}/theirs`],
    ['GET', `${OTHER}/absent`],
    ['GET', '/apis/networking.istio.io/v1/virtualservices'],
    ['GET', `${OTHER}?watch=true`],
    ['POST', OTHER, virtualService('x')],
    ['POST', ROOT, virtualService('x')],
    ['DELETE', `${OTHER}/theirs`],
    ['DELETE', OTHER],
    ['POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'x' } }],
    ['GET', '/api/v1/namespaces'],
    [
      'POST',
      '/apis/hostmesh.io/v1/meshconfigs',
      { apiVersion: 'hostmesh.io/v1', kind: 'MeshConfig', metadata: { name: 'default' }, spec: {} },
    ],
    ['GET', '/apis/hostmesh.io/v1/hosts'],
    ['POST', '/apis/hostmesh.io/v1/hosts/a/revoke', {}],
    ['POST', '/apis/hostmesh.io/v1/jointokens', {}],
    ['POST', '/apis/hostmesh.io/v1/apply', { objects: [virtualService('x', 100, { namespace: 'other' })] }],
  ];
  for (const [method, url, body] of refused) {
    const answer = await ours(method, url, body);
    t.match(answer.body, { kind: 'Status', code: 403, reason: 'Forbidden' }, `${method} ${url}`);
  }
  t.equal((await ours('GET', '/apis/hostmesh.io/v1/meshconfigs')).code, 200, 'what holds for all may be read');
  const reader = await h.as({ verbs: ['get', 'list', 'watch'] });
  t.equal((await reader('GET', `${VS}/mine`)).code, 200);
  t.equal((await reader('DELETE', `${VS}/mine`)).code, 403);
  t.equal(
    (
      await reader('POST', '/apis/hostmesh.io/v1/apply', {
        objects: [virtualService('mine', 100, { namespace: 'shop' })],
      })
    ).code,
    403,
  );
  const root = await h.as({ namespaces: ['istio-system'] });
  t.equal((await root('GET', ROOT)).code, 200);
  t.equal((await root('POST', ROOT, virtualService('x'))).code, 403, 'the root namespace needs mesh-admin');
});

t.test('hosts belong to namespaces; foreign ones may be touched for oneself only', async (t) => {
  const h = await startRest(t);
  const ours = await h.as({});
  const external = (exportTo?: string[]) =>
    serviceEntry('ext', { hosts: ['api.example.com'], location: 'MESH_EXTERNAL', resolution: 'DNS', exportTo });
  t.match((await ours('POST', SE, external())).body, {
    code: 403,
    message: /no namespace owns the host api.example.com/,
  });
  t.equal((await ours('POST', SE, external(['.']))).code, 201);
  const widened = await ours(
    'PATCH',
    `${SE}/ext`,
    { spec: { exportTo: ['*'] } },
    { 'content-type': 'application/merge-patch+json' },
  );
  t.equal(widened.code, 403, 'nor by a patch later');
  const grant = (namespace: string) => ({
    apiVersion: 'hostmesh.io/v1',
    kind: 'MeshConfig',
    metadata: { name: 'default' },
    spec: { hostOwnership: [{ hosts: ['*.example.com'], namespace }] },
  });
  t.equal((await h.send('POST', '/apis/hostmesh.io/v1/meshconfigs', grant('shop'))).code, 201);
  t.equal((await ours('PUT', `${SE}/ext`, external())).code, 200);
  await h.send('PUT', '/apis/hostmesh.io/v1/meshconfigs/default', grant('other'));
  t.match((await ours('PUT', `${SE}/ext`, external(['*']))).body, {
    code: 403,
    message: /belongs to the namespace other/,
  });
});

t.test('a Gateway takes its own names and nobody’s, none of another namespace’s', async (t) => {
  const h = await startRest(t);
  const ours = await h.as({});
  await h.send('POST', '/apis/hostmesh.io/v1/meshconfigs', {
    apiVersion: 'hostmesh.io/v1',
    kind: 'MeshConfig',
    metadata: { name: 'default' },
    spec: {
      hostOwnership: [
        { hosts: ['*.bank.example'], namespace: 'bank' },
        { hosts: ['shop.example'], namespace: 'shop' },
      ],
    },
  });
  const path = '/apis/networking.istio.io/v1/namespaces/shop/gateways';
  const take = (name: string, host: string, as = ours) =>
    as('POST', path, {
      apiVersion: 'networking.istio.io/v1',
      kind: 'Gateway',
      metadata: { name },
      spec: {
        selector: { a: 'b' },
        servers: [{ port: { number: 80, name: 'http', protocol: 'HTTP' }, hosts: [host] }],
      },
    });
  for (const [i, host] of ['*', 'shop.example', './shop.example', 'new.example', '*.example'].entries())
    t.equal((await take(`ok${i}`, host)).code, 201, host);
  for (const host of ['www.bank.example', 'shop/www.bank.example', 'db.bank.svc.cluster.local'])
    t.match((await take('no', host)).body, { code: 403, message: /belongs to the namespace bank/ }, host);
  t.equal((await take('admin', 'www.bank.example', h.send)).code, 201);
});

t.test('who owns a host', async (t) => {
  const meshConfig = {
    spec: {
      hostOwnership: [
        { hosts: ['*.example.com', 'db.internal'], namespace: 'web' },
        { hosts: ['api.example.com', '*.api.example.com'], namespace: 'api' },
      ],
    },
  } as unknown as MeshObject;
  const cases: [string, string | undefined][] = [
    ['reviews', 'shop'],
    ['reviews.shop.svc.cluster.local', 'shop'],
    ['REVIEWS.Books.svc.cluster.local', 'books'],
    ['*.books.svc.cluster.local', 'books'],
    ['x.example.com', 'web'],
    ['*.example.com', 'web'],
    ['example.com', undefined],
    ['api.example.com', 'api'],
    ['v1.api.example.com', 'api'],
    ['db.internal', 'web'],
    ['notexample.com', undefined],
    ['com', 'shop'],
    ['reviews.shop', undefined],
    ['*', undefined],
    ['*.com', undefined],
  ];
  for (const [host, owner] of cases) t.equal(ownerOf(host, 'shop', meshConfig), owner, host);
  const principal = { name: 'p', role: 'namespace', namespaces: ['shop'] } as const;
  const entry = (spec: object) => ({ ...serviceEntry('x', spec), metadata: { name: 'x', namespace: 'shop' } });
  t.match(ownershipRefusal(principal, entry({ addresses: ['10.0.0.1'] }), undefined), /capture the traffic/);
  t.equal(ownershipRefusal(principal, entry({ addresses: ['10.0.0.1'], exportTo: ['.'] }), undefined), undefined);
  const anywhere = (port: object, more: object = {}) =>
    ownershipRefusal(
      principal,
      entry({ hosts: ['x.shop.svc.cluster.local'], resolution: 'NONE', ports: [port], ...more }),
      undefined,
    );
  for (const [number, protocol] of [
    [3306, 'TCP'],
    [3306, undefined],
    [3306, 'mysql'],
    [8080, 'HTTP'],
  ] as const) {
    t.match(anywhere({ number, protocol }), /port \d+ would capture what other namespaces send/, `${protocol}`);
    t.match(anywhere({ number, protocol }, { resolution: undefined }), /would capture/, 'NONE is what nothing means');
    t.match(anywhere({ number, protocol }, { resolution: 'DYNAMIC_DNS' }), /would capture/);
    t.equal(anywhere({ number, protocol }, { exportTo: ['.'] }), undefined);
    t.equal(anywhere({ number, protocol }, { resolution: 'STATIC' }), undefined, 'has a virtual address');
  }
  for (const [number, protocol] of [
    [443, 'TLS'],
    [8443, 'https'],
    [80, 'HTTP'],
    [80, 'grpc'],
  ] as const)
    t.equal(anywhere({ number, protocol }), undefined, 'told apart by its name');
  const short = entry({ hosts: ['ratings'] });
  t.match(
    ownershipRefusal(principal, short, undefined),
    /no namespace owns the host ratings/,
    'what others call theirs',
  );
  t.equal(ownershipRefusal(principal, entry({ hosts: ['ratings'], exportTo: ['shop'] }), undefined), undefined);
  const given = { spec: { hostOwnership: [{ hosts: ['ratings'], namespace: 'shop' }] } } as unknown as MeshObject;
  t.equal(ownershipRefusal(principal, short, given), undefined, 'an admin may give it');
  t.match(ownershipRefusal(principal, entry({ hosts: ['x.y.com'], exportTo: ['.', 'other'] }), undefined), /exportTo/);
});

t.test('every write is one audit line, refused ones too; the chain shows what was changed', async (t) => {
  const h = await startRest(t);
  const ours = await h.as({});
  const before = readFileSync(h.auditPath, 'utf8');
  await h.send('POST', `${VS}?fieldManager=kubectl-create`, virtualService('a'));
  await h.send('POST', VS, virtualService('a'));
  await ours('DELETE', `${VS}/a`);
  await h.send('POST', '/apis/hostmesh.io/v1/jointokens', {
    apiVersion: 'hostmesh.io/v1',
    kind: 'JoinToken',
    spec: { host: 'h1', workloadGroups: [] },
  });
  await h.send('POST', '/apis/hostmesh.io/v1/hosts/a/revoke', {});
  await h.send('GET', VS);
  const text = readFileSync(h.auditPath, 'utf8').slice(before.length);
  const lines = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as AuditLine);
  t.match(lines, [
    {
      principal: 'root',
      verb: 'create',
      keys: ['VirtualService/shop/a'],
      code: 200,
      fieldManager: 'kubectl-create',
      source: '127.0.0.1',
    },
    { verb: 'create', code: 409, reason: 'AlreadyExists' },
    { principal: 'op0', verb: 'delete', code: 200, revision: await h.store.revision() },
    { verb: 'create', keys: ['JoinToken//h1'], code: 200 },
    { verb: 'revoke', keys: ['Host//a'], code: 200 },
  ]);
  t.equal(lines.length, 5);
  t.notMatch(text, 'join-h1', 'no secret');
  const whole = readFileSync(h.auditPath, 'utf8');
  t.equal(firstBrokenLine(whole), undefined);
  t.equal(firstBrokenLine(whole.replace('"create"', '"delete"')), 1);
  t.equal(firstBrokenLine(whole.split('\n').toSpliced(1, 1).join('\n')), 2, 'a line taken out');
});

t.test('the audit log survives what happens to disks', async (t) => {
  const h = await startRest(t);
  await h.send('POST', VS, virtualService('a'));
  const path = `${h.folder}/other.jsonl`;
  const deps = { store: h.store, clock: h.clock, log: silentLogger };
  const event = { principal: 'p', source: 's', verb: 'create', keys: ['K/n/a'], code: 200 };
  const open = async (options = {}) => {
    const audit = createAudit({ path, replica: 'c2', ...options }, deps);
    await audit.open();
    return audit;
  };
  const first = await open();
  first.append({ ...event, revision: 1 });
  // Committed with its row, and killed before the line was written.
  const row = first.row(event);
  const committed = await h.store.commit([row]);
  first.close();
  writeFileSync(path, `${readFileSync(path, 'utf8')}{"seq":2,"half`);
  const second = await open();
  const lines = readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as AuditLine);
  t.match(
    lines,
    [{ seq: 1 }, { seq: 2, verb: 'create', revision: committed.revision }],
    'the line is there, the half one gone',
  );
  second.close();
  const third = await open({ rotateBytes: 10 });
  t.equal(readFileSync(path, 'utf8').trim().split('\n').length, 2, 'nothing is repaired twice');
  third.append(event);
  third.append(event);
  t.equal(firstBrokenLine(readFileSync(`${path}.3`, 'utf8')), undefined);
  const rotated = readFileSync(`${path}.3`, 'utf8').trim().split('\n').at(-1) as string;
  t.match(JSON.parse(readFileSync(path, 'utf8')), { seq: 4, previous: JSON.parse(rotated).hash }, 'the chain goes on');
  third.close();
  writeFileSync(path, '{"seq":9,"hash":"x"}\n');
  await t.rejects(open(), { code: 'AUDIT_BROKEN' });
});

t.test('while the audit log cannot be written, nothing else is', async (t) => {
  const h = await startRest(t, { auditPath: '/dev/full' });
  // The line of this write did not reach the disk; it is kept, and the next write waits for it.
  await h.send('POST', VS, virtualService('a'));
  const before = await h.store.revision();
  t.match((await h.send('POST', VS, virtualService('b'))).body, { code: 503, reason: 'ServiceUnavailable' });
  t.equal(await h.store.revision(), before);
  t.equal((await h.send('GET', VS)).code, 200, 'reads go on');
});

import fc from 'fast-check';
import t from 'tap';
import { buildRedirectSpec, meshResolver, type SpecWorkload } from '../../../../agent/redirect/build-spec.ts';
import { permit } from '../../../../agent/redirect/policy.ts';
import { MAX_SPEC_BYTES, parseSpec, specHash } from '../../../../agent/redirect/spec.ts';
import { MeshError } from '../../../../api/errors.ts';
import { buildPolicy, buildSpec, UID } from '../../../builders/redirect-spec.ts';

const json = (part: object) => JSON.stringify({ ...buildSpec(), ...part });

t.test('a spec survives the trip', async (t) => {
  t.strictSame(parseSpec(JSON.stringify(buildSpec())), buildSpec());
  t.equal(
    specHash(buildSpec({ requestId: 'a' })),
    specHash(buildSpec({ requestId: 'b' })),
    'the request id is not content',
  );
  t.not(specHash(buildSpec()), specHash(buildSpec({ dns: false })));
});

t.test('strict: refused with the path', async (t) => {
  const web = buildSpec().workloads[0]!;
  for (const [text, path] of [
    ['{', undefined],
    ['[]', ''],
    [' '.repeat(MAX_SPEC_BYTES + 1), ''],
    [json({ version: 2 }), 'version'],
    [json({ extra: 1 }), ''],
    [json({ requestId: '../x' }), 'requestId'],
    [json({ families: ['v5'] }), 'families[0]'],
    [json({ families: ['v4', 'v4'] }), 'families'],
    [json({ proxyUid: 0 }), 'proxyUid'],
    [json({ inboundPort: '15006' }), 'inboundPort'],
    [json({ inboundPorts: [{ port: 80, permissive: 0, ownerUids: [] }] }), 'inboundPorts[0].permissive'],
    [json({ inboundPorts: [{ port: 70000, permissive: true, ownerUids: [] }] }), 'inboundPorts[0].port'],
    [json({ workloads: [{ ...web, uid: 1.5 }] }), 'workloads[0].uid'],
    [json({ workloads: [{ ...web, shell: 'x' }] }), 'workloads[0]'],
    [json({ workloads: [web, web] }), 'workloads'],
    [json({ workloads: [{ ...web, outboundPort: 22 }] }), 'workloads[0].outboundPort'],
    [json({ excludeCidrs: ['example.com'] }), 'excludeCidrs[0]'],
    [json({ excludeCidrs: ['10.0.0.0/33'] }), 'excludeCidrs[0]'],
    [json({ excludeCidrs: ['10.0.0.1\n-F'] }), 'excludeCidrs[0]'],
    [json({ excludeCidrs: ['fe80::1%eth0'] }), 'excludeCidrs[0]'],
    [json({ vipRanges: 'x' }), 'vipRanges'],
    [json({ excludePorts: [0] }), 'excludePorts[0]'],
    [json({ dns: null }), 'dns'],
    [json({ resolver: { port: 53, search: [], route: [] } }), 'resolver.port'],
    [json({ resolver: { port: 15053, search: [], route: ['--help'] } }), 'resolver.route[0]'],
    [json({ resolver: { port: 15053, search: [], route: ['.'] } }), 'resolver.route[0]'],
    [json({ resolver: { port: 15053, search: ['~x.y'], route: [] } }), 'resolver.search[0]'],
    [json({ resolver: { port: 15053, search: [], route: [], more: 1 } }), 'resolver'],
  ] as const)
    t.throws(
      () => parseSpec(text),
      { code: 'REDIRECT_SPEC', ...(path === undefined ? {} : { details: { path } }) },
      text.slice(0, 60),
    );
});

t.test('fuzz: any JSON is a spec or a REDIRECT_SPEC', async (t) => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(...Object.keys(buildSpec())), (value, key) => {
      for (const text of [JSON.stringify(value), json({ [key]: value })]) {
        try {
          parseSpec(text);
        } catch (error) {
          if (!(error instanceof MeshError) || error.code !== 'REDIRECT_SPEC') throw error;
        }
      }
    }),
    { seed: 7, numRuns: 500 },
  );
  t.pass();
});

t.test('policy: an agent that was taken over cannot redirect what agent.yaml does not name', async (t) => {
  const web = buildSpec().workloads[0]!;
  const port = buildSpec().inboundPorts[0]!;
  const denied = [
    { proxyUid: UID.stranger },
    { inboundPort: 15007 },
    { workloads: [{ ...web, uid: UID.stranger }] },
    { workloads: [{ ...web, uid: UID.proxy }] },
    { workloads: [{ ...web, uid: UID.agent }] },
    { workloads: [{ ...web, outboundPort: 4444 }] },
    { workloads: [{ ...web, dnsPort: 15090 }] },
    { inboundPorts: [{ ...port, port: 22 }] },
    { inboundPorts: [{ ...port, port: 15300 }] },
    { inboundPorts: [{ ...port, port: 15150 }] },
    { inboundPorts: [{ ...port, ownerUids: [] }] },
    { inboundPorts: [{ ...port, ownerUids: [0] }] },
    { inboundPorts: [{ ...port, ownerUids: [UID.web, UID.stranger] }] },
    { loopbackAllowUids: [UID.stranger] },
    { vipRanges: ['10.0.0.0/8'] },
    { vipRanges: ['240.0.0.0/4'] },
    { vipRanges: ['2001:db8::/48'] },
    { vipRanges: ['fd00::/16'] },
    { vipRanges: ['0.0.0.0/0'] },
    { resolver: { port: 53_000, search: [], route: [] } },
    { resolver: { port: 15053, search: [], route: ['com'] } },
    { resolver: { port: 15053, search: ['bank.example'], route: [] } },
    { resolver: { port: 15053, search: ['other.svc.cluster.local'], route: [] } },
  ];
  for (const part of denied)
    t.throws(() => permit(buildSpec(part), buildPolicy()), { code: 'REDIRECT_DENIED' }, JSON.stringify(part));
  t.throws(() => permit(buildSpec(), buildPolicy({ dnsEnabled: false })), { code: 'REDIRECT_DENIED' });
});

t.test("policy adds what is never captured, and agent.yaml's loopbackAllow", async (t) => {
  const spec = permit(
    buildSpec({ excludePorts: [5432], loopbackAllowUids: [] }),
    buildPolicy({ excludeCidrs: ['10.0.0.0/8'] }),
  );
  t.strictSame(spec.excludePorts, [22, 5432, 15200, 15201, 15300]);
  t.strictSame(spec.excludeCidrs, ['10.0.0.0/8']);
  t.strictSame(spec.loopbackAllowUids, [UID.friend]);
});

t.test('the spec of a host: same workloads in any order, same hash; only STRICT ports are guarded', async (t) => {
  const workloads: SpecWorkload[] = [
    {
      uid: UID.web,
      outboundPort: 15001,
      dnsPort: 15053,
      inboundPorts: [{ number: 8080, mode: 'STRICT' }],
      portOwnerUids: [UID.friend, UID.web],
    },
    {
      uid: UID.news,
      outboundPort: 15100,
      dnsPort: 15054,
      inboundPorts: [
        { number: 91, mode: 'DISABLE' },
        { number: 90, mode: 'PERMISSIVE' },
      ],
      portOwnerUids: [],
    },
  ];
  const input = {
    proxyUid: UID.proxy,
    inboundPort: 15006,
    workloads,
    dns: true,
    vipRanges: ['fd6d:6573:6800::/48', '240.240.0.0/16'],
    resolver: undefined,
  };
  const spec = parseSpec(JSON.stringify({ version: 1, requestId: 'x', ...buildRedirectSpec(input) }));
  const turned = {
    version: 1,
    requestId: 'y',
    ...buildRedirectSpec({ ...input, workloads: [...workloads].reverse() }),
  } as const;
  t.equal(specHash(spec), specHash(turned));
  t.strictSame(spec.inboundPorts, [
    { port: 90, permissive: true, ownerUids: [UID.news] },
    { port: 91, permissive: true, ownerUids: [UID.news] },
    { port: 8080, permissive: false, ownerUids: [UID.friend, UID.web] },
  ]);
  t.ok(permit(spec, buildPolicy({ portOwnerUids: new Set([UID.friend]) })));
});

t.test(
  'what systemd-resolved is told: the mesh, its namespaces, hosts of ServiceEntries; permitted by agent.yaml',
  async (t) => {
    const hosts = ['reviews.default.svc.cluster.local', 'api.example.com', '*.shop.example', 'localname'];
    const resolver = meshResolver(15053, ['default', 'prod'], hosts, 'svc.cluster.local');
    t.strictSame(resolver, {
      port: 15053,
      search: ['default.svc.cluster.local', 'prod.svc.cluster.local'],
      route: ['svc.cluster.local', 'default', 'prod', 'api.example.com', 'shop.example'],
    });
    const spec = buildSpec({ resolver });
    t.strictSame(parseSpec(JSON.stringify(spec)), spec);
    t.ok(permit(spec, buildPolicy({ namespaces: new Set(['default', 'prod']) })));
    t.throws(() => permit(spec, buildPolicy()), { code: 'REDIRECT_DENIED' }, 'prod is no namespace of this host');
    const many = Array.from({ length: 1200 }, (_, i) => `h${i}.example.com`);
    t.equal(meshResolver(15053, ['default'], many, 'svc.cluster.local').route.length, 1000);
  },
);

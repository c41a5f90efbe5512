// Ports of a Sidecar that the proxy and its workload speak over on this host: asked for, parsed, permitted.
import t from 'tap';
import { buildRedirectSpec, type SpecPort } from '../../../../agent/redirect/build-spec.ts';
import { permit } from '../../../../agent/redirect/policy.ts';
import { parseSpec } from '../../../../agent/redirect/spec.ts';
import { buildPolicy, buildSpec, UID } from '../../../builders/redirect-spec.ts';

const built = (inboundPorts: readonly SpecPort[], sockets: readonly { address: string; port: number }[] = []) =>
  buildRedirectSpec({
    proxyUid: UID.proxy,
    inboundPort: 15006,
    workloads: [{ uid: UID.web, outboundPort: 15001, dnsPort: 15053, inboundPorts, sockets, portOwnerUids: [] }],
    dns: true,
    vipRanges: [],
    resolver: undefined,
  });

t.test('what a Sidecar comes to', async (t) => {
  const web = [UID.web];
  t.equal(built([{ number: 80, mode: 'STRICT' }]).localPorts, undefined, 'nothing of its own: as before');
  t.match(built([{ number: 80, mode: 'STRICT', endpoint: { address: '127.0.0.1', port: 8080 } }]), {
    inboundPorts: [{ port: 80, permissive: false }],
    localPorts: [{ kind: 'application', port: 8080, permissive: false, ownerUids: web }],
  });
  const anywhere = { address: '0.0.0.0', port: 8080 };
  t.same(
    built([{ number: 80, mode: 'STRICT', endpoint: anywhere }]).inboundPorts.map(({ port }) => port),
    [80, 8080],
    'an application that the network reaches is not open beside its STRICT port',
  );
  t.same(
    built([{ number: 80, mode: 'PERMISSIVE', endpoint: anywhere }]).inboundPorts.map(({ port }) => port),
    [80],
  );
  const own = built([{ number: 80, mode: 'STRICT', bind: '0.0.0.0', endpoint: { address: '::1', port: 8080 } }]);
  t.same(own.inboundPorts, [], 'what the proxy binds itself is not captured');
  t.match(own.localPorts, [{ kind: 'application', port: 8080 }]);
  t.match(built([], [{ address: '127.0.0.1', port: 3306 }]).localPorts, [
    { kind: 'proxy', port: 3306, address: '127.0.0.1', ownerUids: web },
  ]);
});

t.test('the oneshot takes it when agent.yaml stands for it', async (t) => {
  const local = { kind: 'proxy', port: 3306, address: '127.0.0.1', permissive: false, ownerUids: [UID.web] } as const;
  const spec = buildSpec({ localPorts: [local, { ...local, kind: 'application', address: undefined }] });
  const parsed = parseSpec(JSON.stringify(spec));
  t.match(parsed.localPorts, [local, { kind: 'application', port: 3306 }]);
  t.ok(permit(parsed, buildPolicy()));
  for (const part of [
    { kind: 'other' },
    { address: '10.0.0.1' },
    { address: undefined },
    { port: 0 },
    { ownerUids: ['a'] },
    { more: 1 },
  ])
    t.throws(
      () => parseSpec(JSON.stringify(buildSpec({ localPorts: [{ ...local, ...part } as never] }))),
      { code: 'REDIRECT_SPEC' },
      JSON.stringify(part),
    );
  for (const part of [
    { port: 22 },
    { port: 15150 },
    { ownerUids: [] },
    { ownerUids: [UID.web, UID.stranger] },
    { ownerUids: [0] },
  ])
    t.throws(
      () => permit(buildSpec({ localPorts: [{ ...local, ...part }] }), buildPolicy()),
      { code: 'REDIRECT_DENIED' },
      JSON.stringify(part),
    );
});

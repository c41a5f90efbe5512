import t from 'tap';
import { type Incoming, judge } from '../../../../agent/explain/rbac.ts';

const ANY = [{ any: true }];
const WEB = 'spiffe://mesh.test/ns/default/sa/web';
const caller: Incoming = {
  port: 80,
  source: '10.0.0.1',
  peer: WEB,
  http: { authority: 'db', method: 'GET', path: '/admin?x', headers: { role: 'a' } },
};
const filter = (action: string, policies: object) => ({ rules: { action, policies } });

t.test('rules of access', async (t) => {
  const is = (exact: string) => ({ authenticated: { principal_name: { exact } } });
  const cases: [
    name: string,
    permission: object,
    principal: object,
    more: Partial<Incoming>,
    matches: boolean | undefined,
  ][] = [
    ['anybody', { any: true }, { any: true }, {}, true],
    ['a principal', { any: true }, is(WEB), {}, true],
    ['another', { any: true }, is('spiffe://mesh.test/ns/default/sa/x'), {}, false],
    ['no certificate', { any: true }, is(WEB), { peer: undefined }, false],
    ['whoever has a certificate', { any: true }, { authenticated: {} }, {}, true],
    ['path without its query', { url_path: { path: { exact: '/admin' } } }, { any: true }, {}, true],
    ['bytes have no path', { url_path: { path: { prefix: '/' } } }, { any: true }, { http: undefined }, false],
    ['method', { header: { name: ':method', string_match: { exact: 'POST' } } }, { any: true }, {}, false],
    ['header', { header: { name: 'role', string_match: { prefix: 'a' } } }, { any: true }, {}, true],
    ['port', { destination_port: 80 }, { any: true }, {}, true],
    ['ports', { destination_port_range: { start: 81, end: 90 } }, { any: true }, {}, false],
    ['and', { and_rules: { rules: [{ destination_port: 80 }, { destination_port: 81 }] } }, { any: true }, {}, false],
    ['or', { or_rules: { rules: [{ destination_port: 80 }, { destination_port: 81 }] } }, { any: true }, {}, true],
    ['not', { not_rule: { destination_port: 80 } }, { any: true }, {}, false],
    ['and of principals', { any: true }, { and_ids: { ids: [is(WEB), { not_id: is(WEB) }] } }, {}, false],
    ['source', { any: true }, { direct_remote_ip: { address_prefix: '10.0.0.0', prefix_len: 8 } }, {}, true],
    [
      'source unknown',
      { any: true },
      { remote_ip: { address_prefix: '10.0.0.0', prefix_len: 8 } },
      { source: undefined },
      undefined,
    ],
    ['metadata of a token', { any: true }, { metadata: {} }, {}, undefined],
    ['or of what is known and not', { any: true }, { or_ids: { ids: [{ metadata: {} }, { any: true }] } }, {}, true],
    [
      'a host by its DNS name',
      { any: true },
      { custom: { typed_config: { san_matcher: { san_type: 'DNS', matcher: { exact: 'x' } } } } },
      {},
      undefined,
    ],
    [
      'a URI',
      { any: true },
      { custom: { typed_config: { san_matcher: { san_type: 'URI', matcher: { exact: WEB } } } } },
      {},
      true,
    ],
  ];
  for (const [name, permission, principal, more, matches] of cases) {
    const policies = { p: { permissions: [permission], principals: [principal] } };
    const who = { ...caller, ...more };
    t.equal(judge(filter('ALLOW', policies), who)?.admitted, matches, `${name}: ALLOW`);
    t.equal(
      judge(filter('DENY', policies), who)?.admitted,
      matches === undefined ? undefined : !matches,
      `${name}: DENY`,
    );
  }
});

t.test('several policies, none, and what decides', async (t) => {
  const policy = (permission: object) => ({ permissions: [permission], principals: ANY });
  t.equal(judge({}, caller), undefined, 'no rules');
  t.match(
    judge(filter('ALLOW', {}), caller),
    { admitted: false, policy: undefined },
    'ALLOW without policies refuses all',
  );
  t.match(judge(filter('DENY', {}), caller), { admitted: true });
  t.match(judge(filter('LOG', { a: policy({ any: false }) }), caller), { admitted: true });
  const two = { a: policy({ destination_port: 81 }), b: policy({ destination_port: 80 }) };
  t.match(judge(filter('DENY', two), caller), { admitted: false, policy: 'b' });
  t.match(judge({ matcher: {} }, caller), { admitted: undefined });
});

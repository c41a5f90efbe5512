import t from 'tap';
import { type Connection, chainWords, findChain } from '../../../../agent/explain/chain.ts';
import type { Body } from '../../../../agent/explain/envoy-json.ts';
import {
  headerMatches,
  inRange,
  nameScore,
  replaceRegex,
  stringMatches,
  type Truth,
} from '../../../../agent/explain/matchers.ts';
import {
  findRoute,
  findVirtualHost,
  matchWords,
  percentOf,
  rewritten,
  routeMatches,
  targetOf,
  targetWords,
} from '../../../../agent/explain/route.ts';
import type { HttpCall } from '../../../../api/http/host-query.ts';

const range = (address_prefix: string, prefix_len: number) => ({ address_prefix, prefix_len });

t.test('filter chains: the most specific at each station, without going back', async (t) => {
  const chain = (name: string, filter_chain_match: object) => ({ name, filter_chain_match });
  const listener = {
    filter_chains: [
      chain('any port', {}),
      chain('80', { destination_port: 80 }),
      chain('80 net', { destination_port: 80, prefix_ranges: [range('240.240.0.0', 16)] }),
      chain('80 net http', {
        destination_port: 80,
        prefix_ranges: [range('240.240.0.0', 16)],
        application_protocols: ['http/1.1', 'h2c'],
      }),
      chain('80 host', {
        destination_port: 80,
        prefix_ranges: [range('240.240.0.9', 32)],
        application_protocols: ['h2c'],
      }),
      chain('443 wild', { destination_port: 443, server_names: ['*.example.com'] }),
      chain('443 exact', { destination_port: 443, server_names: ['a.example.com'], transport_protocol: 'tls' }),
      chain('6 v6', { destination_port: 6, prefix_ranges: [range('fd00::', 8)] }),
      chain('7 from', { destination_port: 7, source_prefix_ranges: [range('10.0.0.0', 8)] }),
      chain('7', { destination_port: 7 }),
    ],
    default_filter_chain: { name: 'default' },
  };
  const plain = { tls: false, protocols: [] };
  const cases: [name: string, connection: Connection, expected: string][] = [
    ['a port without chains of its own', { port: 81, ...plain }, 'any port'],
    ['another address', { port: 80, address: '10.0.0.1', ...plain }, '80'],
    ['an address of the range', { port: 80, address: '240.240.1.1', ...plain }, '80 net'],
    ['with its protocol', { port: 80, address: '240.240.1.1', tls: false, protocols: ['http/1.1'] }, '80 net http'],
    ['the longest prefix, no way back', { port: 80, address: '240.240.0.9', ...plain }, 'default'],
    ['and with what it asks', { port: 80, address: '240.240.0.9', tls: false, protocols: ['h2c'] }, '80 host'],
    ['exact name', { port: 443, tls: true, protocols: [], serverName: 'A.example.com' }, '443 exact'],
    ['wildcard', { port: 443, tls: true, protocols: [], serverName: 'b.example.com' }, '443 wild'],
    [
      'exact name in plaintext: no way back',
      { port: 443, tls: false, protocols: [], serverName: 'a.example.com' },
      'default',
    ],
    ['no name', { port: 443, tls: true, protocols: [] }, 'default'],
    ['IPv6', { port: 6, address: 'fd12::1', ...plain }, '6 v6'],
    ['IPv4 where IPv6 is asked', { port: 6, address: '10.0.0.1', ...plain }, 'default'],
    ['a source', { port: 7, source: '10.1.1.1', ...plain }, '7 from'],
    ['another source', { port: 7, source: '11.1.1.1', ...plain }, '7'],
  ];
  for (const [name, connection, expected] of cases) t.equal(findChain(listener, connection)?.name, expected, name);
  t.equal(findChain({ filter_chains: [] }, { port: 1, ...plain }), undefined, 'nothing takes it');
  t.equal(findChain(listener, { port: 7, ...plain })?.others, 1, 'the source is not known');
  t.equal(chainWords(listener.filter_chains[4] ?? {}), 'Addr: 240.240.0.9:80; App: h2c');
  t.equal(chainWords({}), 'ALL');
});

const call = (more: Partial<HttpCall> = {}): HttpCall => ({
  authority: 'reviews',
  method: 'GET',
  path: '/',
  headers: {},
  ...more,
});

t.test('virtual hosts: exact, longest suffix, longest prefix, all', async (t) => {
  const host = (...domains: string[]) => ({ name: domains.join(), domains });
  const routes = {
    ignore_port_in_host_matching: true,
    virtual_hosts: [host('*'), host('*.com'), host('*.example.com'), host('a.example.com', 'a'), host('api.*')],
  };
  const cases: [authority: string, domain: string][] = [
    ['a.example.com', 'a.example.com'],
    ['A.EXAMPLE.com:8080', 'a.example.com'],
    ['b.example.com', '*.example.com'],
    ['x.com', '*.com'],
    ['api.org', 'api.*'],
    ['other', '*'],
  ];
  for (const [authority, domain] of cases) t.equal(findVirtualHost(routes, authority)?.domain, domain, authority);
  t.equal(findVirtualHost({ virtual_hosts: [host('a')] }, 'b'), undefined);
  t.equal(findVirtualHost({ virtual_hosts: [host('a')] }, 'a:80'), undefined, 'the port counts unless it is ignored');
});

t.test('routes: every kind of match', async (t) => {
  const cases: [match: Body, call: Partial<HttpCall>, expected: Truth][] = [
    [{ prefix: '/' }, {}, true],
    [{ prefix: '/a' }, { path: '/ab' }, true],
    [{ path_separated_prefix: '/a' }, { path: '/ab' }, false],
    [{ path_separated_prefix: '/a' }, { path: '/a/b' }, true],
    [{ path: '/a' }, { path: '/a?x=1' }, true],
    [{ path: '/A' }, { path: '/a' }, false],
    [{ path: '/A', case_sensitive: false }, { path: '/a' }, true],
    [{ safe_regex: { regex: '/v[0-9]+' } }, { path: '/v12?x' }, true],
    [{ safe_regex: { regex: '/v[0-9]+' } }, { path: '/v12/x' }, false],
    [{ connect_matcher: {} }, { method: 'CONNECT' }, true],
    [{ prefix: '/', headers: [{ name: ':method', string_match: { exact: 'POST' } }] }, {}, false],
    [{ prefix: '/', headers: [{ name: ':authority', string_match: { suffix: 'views' } }] }, {}, true],
    [{ prefix: '/', headers: [{ name: 'a', present_match: true }] }, { headers: { a: '' } }, true],
    [{ prefix: '/', headers: [{ name: 'a', present_match: true, invert_match: true }] }, {}, true],
    [
      { prefix: '/', headers: [{ name: 'a', string_match: { exact: 'b' }, invert_match: true }] },
      { headers: { a: 'b' } },
      false,
    ],
    [{ prefix: '/', headers: [{ name: 'a', string_match: { exact: 'b' }, invert_match: true }] }, {}, false],
    [
      {
        prefix: '/',
        headers: [{ name: 'a', string_match: { exact: 'b' }, invert_match: true, treat_missing_header_as_empty: true }],
      },
      {},
      true,
    ],
    [{ prefix: '/', headers: [{ name: 'n', range_match: { start: '1', end: '5' } }] }, { headers: { n: '5' } }, false],
    [{ prefix: '/', query_parameters: [{ name: 'x', string_match: { prefix: 'a' } }] }, { path: '/?x=abc' }, true],
    [{ prefix: '/', query_parameters: [{ name: 'x', present_match: true }] }, { path: '/?y' }, false],
    [{ prefix: '/', runtime_fraction: { default_value: { numerator: 30 } } }, {}, undefined],
    [{ prefix: '/', runtime_fraction: { default_value: { numerator: 1_000_000, denominator: 'MILLION' } } }, {}, true],
    [{ prefix: '/', grpc: {} }, { headers: { 'content-type': 'application/grpc+proto' } }, true],
    [{ prefix: '/x', dynamic_metadata: [{}] }, {}, false],
    [{ prefix: '/', dynamic_metadata: [{}] }, {}, undefined],
  ];
  for (const [match, more, expected] of cases)
    t.equal(routeMatches(match, call(more)), expected, `${JSON.stringify(match)} ${JSON.stringify(more)}`);
  const found = findRoute(
    {
      routes: [
        { match: { prefix: '/', runtime_fraction: { default_value: { numerator: 5 } } } },
        { match: { prefix: '/' } },
      ],
    },
    call(),
  );
  t.match(found, { index: 1, perhaps: [{ index: 0, why: '/*; 5 % of them' }] });
  t.equal(
    matchWords({ prefix: '/a', headers: [{ name: 'u', string_match: { safe_regex: { regex: 'j.*' } } }] }),
    '/a*; u ~ j.*',
  );
});

t.test('targets and rewrites', async (t) => {
  const cases: [route: Body, words: string][] = [
    [{ route: { cluster: 'a' } }, 'a'],
    [
      {
        route: {
          weighted_clusters: {
            clusters: [
              { name: 'a', weight: 1 },
              { name: 'b', weight: 2 },
              { name: 'c', weight: 0 },
            ],
          },
        },
      },
      '33.3 % a, 66.7 % b',
    ],
    [{ direct_response: { status: 503 } }, 'answers 503'],
    [
      { redirect: { https_redirect: true, host_redirect: 'x', response_code: 'FOUND' } },
      'redirects (302) to https://x',
    ],
    [{ route: { cluster_header: 'h' } }, 'its cluster is chosen by the request itself'],
  ];
  for (const [route, words] of cases) t.equal(targetWords(targetOf(route)), words);
  const paths: [match: object, action: object, path: string, expected: string][] = [
    [{ prefix: '/a/' }, { prefix_rewrite: '/' }, '/a/b?c', '/b?c'],
    [{ path: '/a' }, { prefix_rewrite: '/z' }, '/a?c', '/z?c'],
    [
      { prefix: '/' },
      { regex_rewrite: { pattern: { regex: '^/(.*)/x' }, substitution: '/$\\1' } },
      '/b/x?y=/b/x',
      '/$b?y=/b/x',
    ],
    [{ prefix: '/' }, {}, '/same', '/same'],
  ];
  for (const [match, route, path, expected] of paths)
    t.equal(rewritten(call({ path }), { match, route }, {}).path, expected);
  t.equal(rewritten(call(), { route: { host_rewrite_literal: 'x' } }, { host_rewrite_literal: 'y' }).authority, 'y');
  t.equal(percentOf({ numerator: 250, denominator: 'TEN_THOUSAND' }), 2.5);
});

t.test('texts, headers, ranges, names', async (t) => {
  t.equal(stringMatches({ exact: 'A', ignore_case: true }, 'a'), true);
  t.equal(stringMatches({ safe_regex: { regex: '(' } }, 'a'), undefined, 'an expression that is none');
  t.equal(headerMatches({ name: 'a' }, 'x'), true);
  t.equal(inRange(range('10.0.0.0', 8), '10.255.0.1'), true);
  t.equal(inRange(range('fd00::1', 128), 'fd00:0:0:0:0:0:0:1'), true);
  t.equal(inRange(range('::ffff:10.0.0.1', 128), '::ffff:a00:1'), true);
  t.equal(nameScore(['*.b.c'], 'b.c'), undefined);
  t.equal(replaceRegex('(', 'a', 'b'), 'a');
});

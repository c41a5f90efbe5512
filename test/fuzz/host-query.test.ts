// Questions to hosts, and configs to explain: whatever comes, an answer or QUERY_INVALID, never anything else.
import fc from 'fast-check';
import t from 'tap';
import { type Connection, findChain, lastFilter } from '../../agent/explain/chain.ts';
import type { Body } from '../../agent/explain/envoy-json.ts';
import { judge } from '../../agent/explain/rbac.ts';
import { findRoute, findVirtualHost, targetOf, targetWords } from '../../agent/explain/route.ts';
import { clusterRows, endpointRows, listenerRows, routeRows, secretRows } from '../../agent/explain/rows.ts';
import { hasCode } from '../../api/errors.ts';
import { parseHostQuery } from '../../api/http/host-query.ts';

const RUNS = { numRuns: 2000, seed: 14 };
/** JSON with the words that our readers look for, so that it goes deep. */
const words = fc.constantFrom(
  ...[
    'ask',
    'config',
    'part',
    'routes',
    'why',
    'to',
    'port',
    'filter',
    'levels',
    'log',
    'headers',
    'http',
    'admit',
    'path',
    '/x',
    '__proto__',
  ],
  ...[
    'filter_chains',
    'filter_chain_match',
    'filters',
    'typed_config',
    '@type',
    'virtual_hosts',
    'domains',
    'routes',
    'match',
    'prefix',
    '/',
  ],
  ...[
    'rules',
    'policies',
    'permissions',
    'principals',
    'any',
    'and_rules',
    'header',
    'name',
    'string_match',
    'safe_regex',
    'regex',
    '(',
  ],
  ...[
    'host_statuses',
    'secret',
    'tls_certificate',
    'certificate_chain',
    'inline_string',
    'weighted_clusters',
    'clusters',
    'weight',
  ],
);
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'medium' },
    fc.oneof(words, fc.integer({ min: -1, max: 70_000 }), fc.boolean(), fc.constant(null), fc.string({ maxLength: 5 })),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(words, tie('value'), { maxKeys: 5 }),
  ),
})).value;

t.test('parseHostQuery: a query that parses to itself, or QUERY_INVALID', async (t) => {
  fc.assert(
    fc.property(
      fc.oneof(json, fc.record({ ask: words, part: words, to: words, port: json, filter: json, levels: json })),
      (value) => {
        try {
          const query = parseHostQuery(value);
          return JSON.stringify(parseHostQuery(JSON.parse(JSON.stringify(query)))) === JSON.stringify(query);
        } catch (error) {
          if (hasCode(error, 'QUERY_INVALID')) return true;
          throw error;
        }
      },
    ),
    RUNS,
  );
  t.pass();
});

t.test('explain: a config of any shape is read without a throw', async (t) => {
  const connection: Connection = { port: 80, address: '10.0.0.1', tls: false, protocols: ['http/1.1'] };
  const call = { authority: 'a', method: 'GET', path: '/x?y', headers: {} };
  fc.assert(
    fc.property(fc.dictionary(words, json, { maxKeys: 6 }), (value) => {
      const body = value as Body;
      const found = findChain(body, connection);
      if (found !== undefined) lastFilter(found.chain);
      const host = findVirtualHost(body, 'a');
      if (host !== undefined) findRoute(host.virtualHost, call);
      findRoute(body, call);
      targetWords(targetOf(body));
      judge(body, { port: 80, http: call });
      listenerRows([body], (name) => name, {});
      routeRows([body], {});
      clusterRows([body], () => [], {});
      endpointRows([body], {});
      secretRows([{ entry: body, active: true }], {}, 0);
    }),
    RUNS,
  );
  t.pass();
});

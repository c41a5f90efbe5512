import { test } from 'tap';
import type { EffectiveRule } from '../../../../agent/mesh-view/lookup.ts';
import type { PortPolicy, TrafficPolicy } from '../../../../agent/mesh-view/specs/destination-rule.ts';
import { tcpSettings } from '../../../../agent/translate/connection-pool.ts';
import { duration } from '../../../../agent/translate/json.ts';
import { fileSecrets, originationSocket, tlsSecrets } from '../../../../agent/translate/origination.ts';
import { originatedTls, portPolicy, transportOf } from '../../../../agent/translate/traffic-policy.ts';

const A = { loadBalancer: { simple: 'RANDOM' } };
const B = { loadBalancer: { simple: 'ROUND_ROBIN' } };
const POOL = { connectionPool: { tcp: { maxConnections: 1 } } };
const OUTLIER = { outlierDetection: { interval: '1s' } };
const HEADER = { proxyProtocol: { version: 'V2' } };
const BUDGET = { retryBudget: { percent: 1 } };
const TUNNEL = { tunnel: { targetHost: 'x', targetPort: 1 } };
const at = (number: number, policy: object) => ({ port: { number }, ...policy });

/** Policy of the rule, of the subset, and what holds for port 80. */
const ROWS: readonly (readonly [string, TrafficPolicy | undefined, TrafficPolicy | undefined, PortPolicy])[] = [
  ['nothing said', undefined, undefined, {}],
  ['the rule’s', { ...A, ...POOL }, undefined, { ...A, ...POOL }],
  ['a subset inherits, and overrides by whole sections', { ...A, ...POOL }, { ...B }, { ...B, ...POOL }],
  ['a section is not merged with another', { connectionPool: { http: { maxRetries: 1 } } }, { ...POOL }, { ...POOL }],
  [
    'settings of a port stand in place of the rest',
    { ...A, ...POOL, portLevelSettings: [at(80, OUTLIER)] },
    undefined,
    OUTLIER,
  ],
  ['settings of another port do not', { ...A, portLevelSettings: [at(81, OUTLIER)] }, undefined, A],
  [
    'settings of a port leave nothing of proxyProtocol and retryBudget',
    { ...HEADER, ...BUDGET, portLevelSettings: [at(80, A)] },
    undefined,
    A,
  ],
  ['a tunnel is no matter of ports', { ...TUNNEL, portLevelSettings: [at(80, A)] }, undefined, { ...A, ...TUNNEL }],
  [
    'a subset inherits settings of the port',
    { ...A, portLevelSettings: [at(80, OUTLIER)] },
    { ...POOL },
    { ...OUTLIER, ...POOL },
  ],
  [
    'a subset’s settings of the port override all sections',
    { ...A, ...OUTLIER, ...HEADER },
    { ...B, portLevelSettings: [at(80, POOL)] },
    { ...POOL, ...HEADER },
  ],
  ['both', { portLevelSettings: [at(80, { ...A, ...OUTLIER })] }, { portLevelSettings: [at(80, B)] }, B],
  [
    'a subset’s tunnel, header and budget',
    { ...TUNNEL, ...HEADER },
    { tunnel: { targetHost: 'y', targetPort: 2 }, ...BUDGET },
    { tunnel: { targetHost: 'y', targetPort: 2 }, ...HEADER, ...BUDGET },
  ],
];

test('inheritance: rule, its port, subset, its port', async (t) => {
  for (const [what, whole, part, expected] of ROWS) {
    const rule: EffectiveRule = { namespace: 'n', trafficPolicy: whole, subsets: [], origins: [], selective: false };
    const found = portPolicy(rule, part === undefined ? undefined : { name: 's', trafficPolicy: part }, 80);
    t.same(JSON.parse(JSON.stringify(found)), expected, what);
  }
  t.same(JSON.parse(JSON.stringify(portPolicy(undefined, undefined, 80))), {});
});

test('who secures a connection: the policy, else the endpoints; TLS of one’s own is not the mesh’s', async (t) => {
  const rows: readonly (readonly [PortPolicy, 'mtls' | 'plain' | 'mixed', string, boolean])[] = [
    [{}, 'mixed', 'mixed', false],
    [{}, 'mtls', 'mtls', false],
    [{ tls: {} }, 'mtls', 'plain', false],
    [{ tls: { mode: 'DISABLE' } }, 'mtls', 'plain', false],
    [{ tls: { mode: 'ISTIO_MUTUAL' } }, 'plain', 'mtls', false],
    [{ tls: { mode: 'SIMPLE' } }, 'mtls', 'plain', true],
    [{ tls: { mode: 'MUTUAL' } }, 'mixed', 'plain', true],
  ];
  for (const [policy, transport, expected, own] of rows) {
    t.equal(transportOf(policy, { transport }), expected, JSON.stringify(policy));
    t.equal(originatedTls(policy) !== undefined, own);
  }
  t.equal(transportOf({}, { transport: 'mtls' }, false), 'plain', 'without auto mTLS');
  t.equal(transportOf({ tls: { mode: 'ISTIO_MUTUAL' } }, { transport: 'plain' }, false), 'mtls');
});

test('whom a TLS client asks for and believes', async (t) => {
  const of = (tls: object, host: string, carries: 'http' | 'bytes' | 'either', subjectAltNames: string[] = []) => {
    const { socket, http } = originationSocket({
      tls: { mode: 'SIMPLE', ...tls },
      host,
      subjectAltNames,
      carries,
      http2: false,
      minVersion: 'TLSv1_2',
    });
    // biome-ignore lint/suspicious/noExplicitAny: Envoy's own message
    const { sni, common_tls_context: context } = socket.typed_config as any;
    const sans = context.combined_validation_context?.default_validation_context.match_typed_subject_alt_names ?? [];
    return { sni, sans: sans.map((one: { matcher: { exact: string } }) => one.matcher.exact), ...http };
  };
  const ca = { caCertificates: '/etc/mesh/tls/ca.pem' };
  const auto = { sni: undefined, sans: [], auto_sni: true, auto_san_validation: true };
  t.same(of({}, 'a.example', 'http'), auto);
  t.same(of({}, '*.example', 'http'), auto);
  t.same(of({}, 'a.example', 'bytes'), { sni: 'a.example', sans: ['a.example'] });
  t.same(of({}, '*.example', 'bytes'), { sni: undefined, sans: [] });
  t.same(of({}, 'a.example', 'either'), { sni: 'a.example', sans: ['a.example'], auto_sni: true });
  t.same(of({ sni: 's' }, 'a.example', 'http'), { sni: 's', sans: ['s'] }, 'public CAs: the name counts');
  t.same(of({ sni: 's', ...ca }, 'a.example', 'http'), { sni: 's', sans: [] }, 'a CA of one’s own decides alone');
  t.same(of({ subjectAltNames: ['x'] }, 'a.example', 'http'), { sni: undefined, sans: ['x'], auto_sni: true });
  t.same(of({}, 'a.example', 'http', ['y']), { sni: undefined, sans: ['y'], auto_sni: true }, 'ServiceEntry’s names');
  t.same(of({ subjectAltNames: ['x'] }, 'a.example', 'http', ['y']).sans, ['x'], 'the rule’s before them');
  t.same(of({ insecureSkipVerify: true }, 'a.example', 'http'), { sni: undefined, sans: [], auto_sni: true });
});

test('names of files in SDS', async (t) => {
  t.same(fileSecrets({ mode: 'SIMPLE' }), { roots: 'file-root:system' });
  t.same(fileSecrets({ mode: 'SIMPLE', insecureSkipVerify: true }), {});
  t.same(
    fileSecrets({ mode: 'MUTUAL', clientCertificate: '/c', privateKey: '/k', caCertificates: '/a', caCrl: '/l' }),
    {
      certificate: 'file-cert:/c~/k',
      roots: 'file-root:/a~/l',
    },
  );
});

test('credentialName: the Secret of the client’s namespace; nobody where it may have none', async (t) => {
  const mutual = { mode: 'MUTUAL', credentialName: 'c' };
  t.same(tlsSecrets(mutual, 'shop'), { certificate: 'kubernetes://shop/c', roots: 'kubernetes://shop/c-cacert' });
  t.same(tlsSecrets({ ...mutual, mode: 'SIMPLE' }, 'shop'), { roots: 'kubernetes://shop/c-cacert' });
  t.same(tlsSecrets({ ...mutual, insecureSkipVerify: true }, 'shop'), { certificate: 'kubernetes://shop/c' });
  t.same(tlsSecrets({ ...mutual, insecureSkipVerify: true }, undefined), { roots: 'file-root:nobody' });
});

test('a TcpProxy’s share of a rule', async (t) => {
  t.same(tcpSettings({}), {});
  t.same(tcpSettings({ connectionPool: { tcp: { idleTimeout: '0s', maxConnectionDuration: '1m' } } }), {
    idle_timeout: '0s',
    max_downstream_connection_duration: '60s',
  });
  t.same(tcpSettings({ tunnel: { targetHost: 'x.example', targetPort: 443 } }), {
    tunneling_config: { hostname: 'x.example:443' },
  });
  t.same(tcpSettings({ tunnel: { protocol: 'POST', targetHost: 'fd00::1', targetPort: 443 } }), {
    tunneling_config: { hostname: '[fd00::1]:443', use_post: true },
  });
});

test('durations as Go writes them', async (t) => {
  const rows = {
    '1h30m': '5400s',
    '1.5s': '1.5s',
    '250ms': '0.25s',
    '.5s': '0.5s',
    '1.s': '1s',
    '0': '0s',
    '0s': '0s',
  };
  for (const [text, expected] of Object.entries(rows)) t.equal(duration(text), expected, text);
  for (const text of ['', 's', '1', '1d', '-1s']) t.equal(duration(text), undefined, text);
});

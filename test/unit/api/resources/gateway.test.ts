// Istio's verdicts on Gateways: taken, refused with path and words, warned of.
import { test } from 'tap';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { Report } from '../../../../api/resources/report.ts';
import { checkGateway } from '../../../../api/resources/semantics/gateway.ts';

const FILES = { serverCertificate: '/etc/mesh/tls/a.pem', privateKey: '/etc/mesh/tls/a.key' };

function judge(servers: readonly object[], name = 'gw'): Report {
  const report = new Report();
  const object = {
    apiVersion: 'v1',
    kind: 'Gateway',
    metadata: { name, namespace: 'shop' },
    spec: { selector: { a: 'b' }, servers },
  };
  checkGateway(object as MeshObject, report);
  return report;
}

const port = (number: number, protocol: string, name = 'p') => ({ number, protocol, name });
const http = (more: object = {}) => ({ port: port(80, 'HTTP'), hosts: ['*'], ...more });
const https = (tls?: object, more: object = {}) => ({
  port: port(443, 'HTTPS'),
  hosts: ['a.example'],
  ...(tls === undefined ? {} : { tls }),
  ...more,
});
const simple = (more: object = {}) => https({ mode: 'SIMPLE', credentialName: 'c', ...more });

const TAKEN: readonly [string, readonly object[]][] = [
  ['HTTP', [http()]],
  ['hosts of namespaces', [http({ hosts: ['*', 'ns/*', './a.example', '*/*.b.example', 'c'] })]],
  ['redirect to https', [http({ tls: { httpsRedirect: true } })]],
  ['a bind', [http({ bind: '10.0.0.1' }), http({ bind: 'fd00::1', port: port(80, 'HTTP', 'q') })]],
  [
    'protocols in any case',
    ['http2', 'Grpc', 'GRPC-WEB', 'tcp', 'mongo'].map((p, i) => http({ port: port(1000 + i, p, p) })),
  ],
  ['SIMPLE by Secret', [simple()]],
  ['SIMPLE by files', [https({ mode: 'SIMPLE', ...FILES })]],
  ['two certificates', [https({ mode: 'SIMPLE', credentialNames: ['rsa', 'ec'] })]],
  ['two pairs of files', [https({ mode: 'SIMPLE', tlsCertificates: [FILES, FILES] })]],
  ['MUTUAL by Secret', [https({ mode: 'MUTUAL', credentialName: 'c', subjectAltNames: ['x'] })]],
  ['MUTUAL, its CA apart', [https({ mode: 'MUTUAL', ...FILES, caCertCredentialName: 'ca' })]],
  [
    'OPTIONAL_MUTUAL by files',
    [
      https({
        mode: 'OPTIONAL_MUTUAL',
        ...FILES,
        caCertificates: '/etc/mesh/tls/ca.pem',
        caCrl: '/etc/mesh/tls/crl.pem',
      }),
    ],
  ],
  ['ISTIO_MUTUAL', [https({ mode: 'ISTIO_MUTUAL' })]],
  ['passthrough by default', [https({}), { ...https({ mode: 'AUTO_PASSTHROUGH' }), port: port(15443, 'TLS', 'q') }]],
  [
    'versions and ciphers',
    [
      simple({
        minProtocolVersion: 'TLSV1_0',
        maxProtocolVersion: 'TLSV1_2',
        cipherSuites: ['AES128-SHA', '[AES128-SHA|AES256-SHA]'],
      }),
    ],
  ],
];

for (const [name, servers] of TAKEN)
  test(`taken: ${name}`, async (t) => {
    const { violations, warnings } = judge(servers);
    t.same(violations, []);
    t.same(warnings, []);
  });

const S = 'spec.servers[0]';
const REFUSED: readonly [string, readonly object[], string, RegExp][] = [
  ['no server', [], 'spec.servers', /at least one server/],
  ['no host', [http({ hosts: [] })], `${S}.hosts`, /at least one host/],
  ['a host that is none', [http({ hosts: ['a_b.example'] })], `${S}.hosts[0]`, /./],
  ['three parts', [http({ hosts: ['a/b/c'] })], `${S}.hosts[0]`, /NAMESPACE\/HOST/],
  ['no namespace', [http({ hosts: ['~/a'] })], `${S}.hosts[0]`, /names no namespace/],
  ['no port name', [http({ port: port(80, 'HTTP', '') })], `${S}.port.name`, /must be set/],
  ['port 0', [http({ port: port(0, 'HTTP') })], `${S}.port.number`, /./],
  ['an unknown protocol', [http({ port: port(80, 'QUIC') })], `${S}.port.protocol`, /invalid protocol "QUIC"/],
  ['UDP', [http({ port: port(53, 'UDP') })], `${S}.port.protocol`, /invalid protocol/],
  ['one port name twice', [http(), http()], 'spec.servers[1].port.name', /must be unique: duplicate name p/],
  [
    'one server name twice',
    [http({ name: 'x' }), http({ name: 'x', port: port(81, 'HTTP', 'q') })],
    'spec.servers[1].name',
    /must be unique/,
  ],
  ['a bind that is none', [http({ bind: 'eth0' })], `${S}.bind`, /not an IP address/],
  ['a socket', [http({ bind: 'unix:///x' })], `${S}.bind`, /not allowed/],
  ['HTTPS without tls', [https()], `${S}.tls`, /must have TLS settings/],
  ['HTTP with TLS', [http({ tls: { mode: 'SIMPLE', ...FILES } })], `${S}.tls`, /plain text HTTP ports/],
  [
    'TCP with TLS',
    [http({ port: port(1, 'TCP'), tls: { mode: 'SIMPLE', ...FILES } })],
    `${S}.tls`,
    /non HTTPS\/TLS ports/,
  ],
  ['SIMPLE without a certificate', [https({ mode: 'SIMPLE' })], `${S}.tls.serverCertificate`, /SIMPLE TLS requires/],
  [
    'a pair without its key',
    [https({ mode: 'SIMPLE', tlsCertificates: [{ serverCertificate: FILES.serverCertificate }] })],
    `${S}.tls.tlsCertificates[0].privateKey`,
    /requires a private key/,
  ],
  [
    'MUTUAL without a CA',
    [https({ mode: 'MUTUAL', ...FILES })],
    `${S}.tls.caCertificates`,
    /requires a client CA bundle/,
  ],
  ['two sources', [simple(FILES)], `${S}.tls`, /only one of/],
  [
    'a CRL beside a Secret',
    [https({ mode: 'MUTUAL', credentialName: 'c', caCrl: '/etc/mesh/tls/c' })],
    `${S}.tls.caCrl`,
    /in the credential/,
  ],
  [
    'a CRL for SIMPLE',
    [https({ mode: 'SIMPLE', ...FILES, caCrl: '/etc/mesh/tls/c' })],
    `${S}.tls.caCrl`,
    /with SIMPLE TLS/,
  ],
  [
    'ISTIO_MUTUAL with a Secret',
    [https({ mode: 'ISTIO_MUTUAL', credentialName: 'c' })],
    `${S}.tls.credentialName`,
    /cannot have associated/,
  ],
  ['a file elsewhere', [https({ mode: 'SIMPLE', ...FILES, privateKey: '/etc/shadow' })], `${S}.tls.privateKey`, /./],
  [
    'a way out of the folder',
    [https({ mode: 'SIMPLE', ...FILES, privateKey: '/etc/mesh/tls/../x' })],
    `${S}.tls.privateKey`,
    /./,
  ],
  [
    'a name that no Secret has',
    [simple({ credentialName: 'a/b' })],
    `${S}.tls.credentialName`,
    /not the name of a Secret/,
  ],
  [
    'a file of another namespace',
    [https({ mode: 'SIMPLE', ...FILES, privateKey: '/etc/mesh/tls/other/a.key' })],
    `${S}.tls.privateKey`,
    /namespace other/,
  ],
  [
    'versions the wrong way round',
    [simple({ minProtocolVersion: 'TLSV1_3', maxProtocolVersion: 'TLSV1_2' })],
    `${S}.tls`,
    /above maxProtocolVersion/,
  ],
];

for (const [name, servers, path, message] of REFUSED)
  test(`refused: ${name}`, async (t) => {
    const { violations } = judge(servers);
    t.ok(
      violations.some((one) => one.path === path && message.test(one.message)),
      JSON.stringify(violations),
    );
  });

test('refused: a name with dots', async (t) => {
  t.match(judge([http()], 'a.b').violations, [{ path: 'metadata.name' }]);
});

const WARNED: readonly [string, readonly object[], string, RegExp][] = [
  [
    'passthrough with certificates',
    [https({ mode: 'PASSTHROUGH', credentialName: 'c' })],
    `${S}.tls`,
    /will be ignored/,
  ],
  ['a redirect of https', [simple({ httpsRedirect: true })], `${S}.tls.httpsRedirect`, /only be used with http/],
  ['an unknown cipher', [simple({ cipherSuites: ['FOO'] })], `${S}.tls.cipherSuites[0]`, /ignoring invalid/],
  [
    'a cipher twice',
    [simple({ cipherSuites: ['AES128-SHA', 'AES128-SHA'] })],
    `${S}.tls.cipherSuites[1]`,
    /ignoring duplicate/,
  ],
  [
    'old TLS without ciphers',
    [simple({ minProtocolVersion: 'TLSV1_1' })],
    `${S}.tls.minProtocolVersion`,
    /below TLSV1_2/,
  ],
  ['SANs of nobody', [simple({ subjectAltNames: ['x'] })], `${S}.tls.subjectAltNames`, /no effect/],
  [
    'three certificates',
    [https({ mode: 'SIMPLE', credentialNames: ['a', 'b', 'c'] })],
    `${S}.tls.credentialNames`,
    /up to 2/,
  ],
  ['a port of the mesh', [http({ port: port(15021, 'HTTP') })], `${S}.port.number`, /unless a Service maps it/],
];

for (const [name, servers, path, message] of WARNED)
  test(`warned of: ${name}`, async (t) => {
    const { violations, warnings } = judge(servers);
    t.same(violations, []);
    t.match(warnings, [{ path, message }]);
  });

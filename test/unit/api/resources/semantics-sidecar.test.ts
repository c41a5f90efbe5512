// Verdicts and warnings on Sidecar, ProxyConfig and MeshConfig: Istio's, and what is refused on hosts.
import t from 'tap';
import { parse } from 'yaml';
import { crossCheck, type MeshLookup } from '../../../../api/resources/cross-check.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { validateObject } from '../../../../api/resources/validate.ts';

const API: Readonly<Record<string, string>> = {
  Sidecar: 'networking.istio.io/v1',
  ProxyConfig: 'networking.istio.io/v1beta1',
  MeshConfig: 'hostmesh.io/v1',
};

/** Kind, spec as YAML, what is found: nothing for fine, `path: part of the message`; a warning after `~ `. */
type Case = readonly [kind: string, spec: string, ...findings: string[]];

const egress = (listener: string) => `{egress: [${listener}]}`;
const ingress = (listener: string) => `{ingress: [${listener}]}`;
const PAIR = 'serverCertificate: /etc/mesh/tls/a.pem, privateKey: /etc/mesh/tls/a.key';
const PORT = 'port: {number: 9080, protocol: HTTP, name: http}';

const sidecars: Case[] = [
  ['Sidecar', egress('{hosts: ["*/*"]}')],
  ['Sidecar', egress('{hosts: ["./*", "istio-system/*"]}')],
  ['Sidecar', egress('{hosts: ["~/*"]}')],
  ['Sidecar', egress('{hosts: ["ns/*.example.com", "*/a.example.com"]}')],
  ['Sidecar', '{}', 'spec: needs egress'],
  ['Sidecar', '{workloadSelector: {labels: {app: a}}}', 'spec: needs egress'],
  [
    'Sidecar',
    '{workloadSelector: {}, egress: [{hosts: ["*/*"]}]}',
    '~ spec.workloadSelector: all workloads of the namespace',
  ],
  ['Sidecar', egress('{hosts: []}'), 'spec.egress[0].hosts: at least one host'],
  ['Sidecar', egress('{hosts: [a.com]}'), 'spec.egress[0].hosts[0]: NAMESPACE/HOST'],
  ['Sidecar', egress('{hosts: [a/b/c]}'), 'spec.egress[0].hosts[0]: NAMESPACE/HOST'],
  ['Sidecar', egress('{hosts: ["a/*b*"]}'), 'spec.egress[0].hosts[0]: '],
  ['Sidecar', egress('{hosts: ["a_b/*"]}'), 'spec.egress[0].hosts[0]: '],
  ['Sidecar', egress('{hosts: ["a/b.c", "a/b.c"]}'), '~ spec.egress[0].hosts[1]: duplicated'],
  ['Sidecar', egress('{hosts: ["a/*", "a/b.c"]}'), '~ spec.egress[0].hosts[1]: duplicated'],
  ['Sidecar', egress('{hosts: ["*/*", "a/b.c"]}'), '~ spec.egress[0].hosts: selects everything'],
  ['Sidecar', egress('{hosts: ["*/*"]}, {hosts: ["*/*"]}'), 'spec.egress[0]: must be the last one'],
  ['Sidecar', egress(`{hosts: ["*/*"]}, {${PORT}, hosts: ["*/*"]}`), 'spec.egress[0]: must be the last one'],
  ['Sidecar', egress(`{${PORT}, hosts: ["./*"]}, {hosts: ["*/*"]}`)],
  [
    'Sidecar',
    egress(`{${PORT}, hosts: ["./*"]}, {${PORT}, hosts: ["*/*"]}`),
    'spec.egress[1].port.number: duplicate port',
  ],
  [
    'Sidecar',
    egress('{port: {number: 0, protocol: HTTP}, bind: "unix:///x", hosts: ["./*"]}'),
    'spec.egress[0].bind: unix sockets',
  ],
  ['Sidecar', egress('{port: {number: 70000, protocol: HTTP}, hosts: ["./*"]}'), 'spec.egress[0].port.number: range'],
  [
    'Sidecar',
    egress('{port: {number: 15006, protocol: HTTP}, hosts: ["./*"]}'),
    'spec.egress[0].port.number: mesh’s own'.replace('’', "'"),
  ],
  [
    'Sidecar',
    egress('{port: {number: 80, protocol: FOO}, hosts: ["./*"]}'),
    'spec.egress[0].port.protocol: unsupported protocol',
  ],
  [
    'Sidecar',
    egress('{port: {number: 80, protocol: HTTP_PROXY}, hosts: ["./*"]}'),
    'spec.egress[0].port.protocol: not supported',
  ],
  [
    'Sidecar',
    egress('{port: {number: 80, targetPort: 1}, hosts: ["./*"]}'),
    'spec.egress[0].port.targetPort: no impact',
  ],
  ['Sidecar', egress(`{${PORT}, bind: 10.0.0.1, hosts: ["./*"]}`)],
  ['Sidecar', egress(`{${PORT}, bind: nowhere, hosts: ["./*"]}`), 'spec.egress[0].bind: not an IP address'],
  ['Sidecar', egress(`{${PORT}, bind: 127.0.0.1, hosts: ["./*"]}`), 'spec.egress[0].bind: captureMode NONE'],
  ['Sidecar', egress(`{${PORT}, bind: 127.0.0.1, captureMode: NONE, hosts: ["./*"]}`)],
  ['Sidecar', egress(`{${PORT}, captureMode: NONE, hosts: ["./*"]}`)],
  ['Sidecar', egress(`{${PORT}, bind: 10.0.0.1, captureMode: NONE, hosts: ["./*"]}`), 'spec.egress[0].bind: loopback'],
  ['Sidecar', egress('{captureMode: NONE, hosts: ["./*"]}'), 'spec.egress[0].captureMode: nothing to bind'],
  ['Sidecar', egress('{captureMode: IPTABLES, hosts: ["./*"]}')],
  ['Sidecar', egress('{captureMode: OTHER, hosts: ["./*"]}'), 'spec.egress[0].captureMode: '],
  ['Sidecar', ingress(`{${PORT}}`)],
  ['Sidecar', ingress('{port: {number: 9080}}')],
  ['Sidecar', ingress('{}'), 'spec.ingress[0].port: required'],
  ['Sidecar', ingress(`{${PORT}}, {${PORT}}`), 'spec.ingress[1].port.number: duplicate port'],
  ['Sidecar', ingress('{port: {number: 15001, protocol: HTTP}}'), "spec.ingress[0].port.number: the mesh's own"],
  ...['127.0.0.1:8080', '0.0.0.0:8080', '[::1]:8080', '[::]:8080', ':8080'].map(
    (endpoint): Case => ['Sidecar', ingress(`{${PORT}, defaultEndpoint: "${endpoint}"}`)],
  ),
  [
    'Sidecar',
    ingress(`{${PORT}, defaultEndpoint: "10.0.0.1:8080"}`),
    'spec.ingress[0].defaultEndpoint: must be 127.0.0.1:PORT',
  ],
  [
    'Sidecar',
    ingress(`{${PORT}, defaultEndpoint: "127.0.0.1"}`),
    'spec.ingress[0].defaultEndpoint: must be 127.0.0.1:PORT',
  ],
  ['Sidecar', ingress(`{${PORT}, defaultEndpoint: "127.0.0.1:0"}`), 'spec.ingress[0].defaultEndpoint: range'],
  [
    'Sidecar',
    ingress(`{${PORT}, defaultEndpoint: "127.0.0.1:15200"}`),
    "spec.ingress[0].defaultEndpoint: the mesh's own",
  ],
  ['Sidecar', ingress(`{${PORT}, defaultEndpoint: "unix:///x"}`), 'spec.ingress[0].defaultEndpoint: unix sockets'],
  ['Sidecar', ingress(`{${PORT}, bind: 10.0.0.1}`), 'spec.ingress[0].bind: only captureMode NONE binds'],
  ['Sidecar', ingress(`{${PORT}, captureMode: NONE}`), 'spec.ingress[0].defaultEndpoint: another port'],
  [
    'Sidecar',
    ingress(`{${PORT}, captureMode: NONE, defaultEndpoint: "127.0.0.1:9080"}`),
    'spec.ingress[0].defaultEndpoint: another port',
  ],
  ['Sidecar', ingress(`{${PORT}, captureMode: NONE, bind: 10.0.0.1, defaultEndpoint: "127.0.0.1:8080"}`)],
  [
    'Sidecar',
    ingress(`{${PORT}, connectionPool: {tcp: {maxConnections: -1}}}`),
    'spec.ingress[0].connectionPool.tcp.maxConnections: ',
  ],
  [
    'Sidecar',
    ingress('{port: {number: 1, protocol: TCP}, connectionPool: {http: {http2MaxRequests: 1}}}'),
    '~ spec.ingress[0].connectionPool.http: only TCP settings',
  ],
  ['Sidecar', ingress(`{${PORT}, tls: {mode: SIMPLE, ${PAIR}}}`)],
  ['Sidecar', ingress(`{${PORT}, tls: {mode: MUTUAL, ${PAIR}, caCertificates: /etc/mesh/tls/ca.pem}}`)],
  ['Sidecar', ingress(`{${PORT}, tls: {mode: SIMPLE}}`), 'spec.ingress[0].tls.serverCertificate: requires'],
  ['Sidecar', ingress(`{${PORT}, tls: {mode: ISTIO_MUTUAL}}`), 'spec.ingress[0].tls.mode: cannot set mode'],
  [
    'Sidecar',
    ingress(`{${PORT}, tls: {mode: SIMPLE, credentialName: a}}`),
    'spec.ingress[0].tls.credentialName: not supported',
  ],
  [
    'Sidecar',
    ingress(`{${PORT}, tls: {mode: SIMPLE, serverCertificate: /etc/passwd, privateKey: /etc/mesh/tls/a.key}}`),
    'spec.ingress[0].tls.serverCertificate: must lie in',
  ],
  ['Sidecar', '{inboundConnectionPool: {tcp: {maxConnections: 5}}}'],
  ['Sidecar', '{inboundConnectionPool: {}}', 'spec.inboundConnectionPool: at least one field'],
  [
    'Sidecar',
    '{inboundConnectionPool: {http: {useClientProtocol: true}}}',
    'spec.inboundConnectionPool.http.useClientProtocol: not supported',
  ],
  ['Sidecar', '{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}'],
  ['Sidecar', '{outboundTrafficPolicy: {}}', '~ spec.outboundTrafficPolicy: REGISTRY_ONLY'],
  ['Sidecar', '{outboundTrafficPolicy: {mode: VIRTUAL_SERVICE_ONLY}}', 'spec.outboundTrafficPolicy.mode: '],
  [
    'Sidecar',
    '{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b.svc.cluster.local, port: {number: 80}}}}',
  ],
  [
    'Sidecar',
    '{outboundTrafficPolicy: {mode: REGISTRY_ONLY, egressProxy: {host: a.b, port: {number: 80}}}}',
    'spec.outboundTrafficPolicy.egressProxy: only with mode ALLOW_ANY',
  ],
  [
    'Sidecar',
    '{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b}}}',
    'spec.outboundTrafficPolicy.egressProxy.port: required',
  ],
  [
    'Sidecar',
    '{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a, port: {number: 80}}}}',
    'spec.outboundTrafficPolicy.egressProxy.host: full name',
  ],
];

const others: Case[] = [
  ['ProxyConfig', '{concurrency: 0}'],
  ['ProxyConfig', '{selector: {matchLabels: {app: a}}, concurrency: 2}'],
  ['ProxyConfig', '{concurrency: 1.5}', 'spec.concurrency: '],
  ['ProxyConfig', '{environmentVariables: {A: b}}', 'spec.environmentVariables: reads no environment'],
  ['ProxyConfig', '{image: {imageType: distroless}}', 'spec.image: mesh-envoy'],
  [
    'MeshConfig',
    '{accessLogFile: /dev/stdout, accessLogEncoding: TEXT, accessLogFormat: "[%START_TIME(%s)%] %REQ(:METHOD)% 100%%"}',
  ],
  ['MeshConfig', '{accessLogFile: ""}'],
  ['MeshConfig', '{accessLogFile: /var/log/x}', 'spec.accessLogFile: only /dev/stdout'],
  ['MeshConfig', '{accessLogFormat: "%ENVIRONMENT(HOME)%"}', 'spec.accessLogFormat: %ENVIRONMENT%'],
  ['MeshConfig', '{accessLogFormat: "%NOPE%"}', 'spec.accessLogFormat: %NOPE%'],
  ['MeshConfig', '{accessLogFormat: "50%"}', 'spec.accessLogFormat: single %'],
  ['MeshConfig', '{accessLogEncoding: JSON, accessLogFormat: "[1]"}', 'spec.accessLogFormat: JSON object'],
  ['MeshConfig', '{connectTimeout: 0s}', 'spec.connectTimeout: '],
  ['MeshConfig', '{protocolDetectionTimeout: 0s, connectTimeout: 5s, dnsRefreshRate: 5s}'],
  ['MeshConfig', '{tcpKeepalive: {time: 1ms}}', 'spec.tcpKeepalive.time: '],
  ['MeshConfig', '{defaultServiceExportTo: ["."], defaultVirtualServiceExportTo: ["*"]}'],
  ['MeshConfig', '{defaultServiceExportTo: ["*", "a"]}', 'spec.defaultServiceExportTo: together'],
  ['MeshConfig', '{defaultHttpRetryPolicy: {attempts: 2, retryOn: nonsense}}', 'spec.defaultHttpRetryPolicy.retryOn: '],
  [
    'MeshConfig',
    '{localityLbSetting: {distribute: [{from: a, to: {b: 99}}]}}',
    'spec.localityLbSetting.distribute[0].to: 99',
  ],
  ['MeshConfig', '{meshMTLS: {minProtocolVersion: TLSV1_3}, pathNormalization: {normalization: NONE}}'],
  ['MeshConfig', '{meshMTLS: {minProtocolVersion: TLSV1_1}}', 'spec.meshMTLS.minProtocolVersion: TLSV1_2'],
  ['MeshConfig', '{pathNormalization: {normalization: ALL}}', 'spec.pathNormalization.normalization: '],
  ['MeshConfig', '{extensionProviders: [{name: a}]}', 'spec.extensionProviders: only Telemetry'],
  ['MeshConfig', '{trustDomainAliases: [a]}', 'spec.trustDomainAliases: '],
  ['MeshConfig', '{rootNamespace: istio-system}'],
  ['MeshConfig', '{rootNamespace: other}', 'spec.rootNamespace: istio-system'],
  ['MeshConfig', '{nonsense: 1}', 'spec.nonsense: unknown field'],
  ['MeshConfig', '{defaultConfig: {concurrency: 4}}'],
  ['MeshConfig', '{defaultConfig: {proxyMetadata: {A: b}}}', 'spec.defaultConfig.proxyMetadata: environment'],
];

for (const [title, cases] of Object.entries({ sidecars, others })) {
  t.test(title, async (t) => {
    for (const [kind, spec, ...findings] of cases) {
      const name = kind === 'MeshConfig' ? 'default' : 'it';
      const input = { apiVersion: API[kind], kind, metadata: { name }, spec: parse(spec) };
      const { object, violations, warnings } = validateObject(input, { trustDomain: 'mesh.test' });
      const hard = findings.filter((finding) => !finding.startsWith('~ '));
      for (const finding of findings) {
        const text = finding.replace('~ ', '');
        const cut = text.indexOf(': ');
        const list = finding === text ? violations : warnings;
        const hit = list.some((one) => one.path === text.slice(0, cut) && one.message.includes(text.slice(cut + 2)));
        t.ok(hit, `${spec}: ${finding}`, { violations, warnings });
      }
      if (hard.length === 0) t.same(violations, [], spec);
      t.equal(object === undefined, hard.length > 0, `${spec}: ${hard.length > 0 ? 'refused' : 'taken'}`);
    }
  });
}

t.test('a Sidecar beside the rest of the mesh', async (t) => {
  const object = (kind: string, name: string, spec: object, namespace = 'shop'): MeshObject => ({
    apiVersion: 'x',
    kind,
    metadata: { name, namespace },
    spec,
  });
  const all = [
    object('Service', 'cart', {}),
    object('ServiceEntry', 'api', { hosts: ['api.example.com'] }, 'books'),
    object('WorkloadGroup', 'till', { metadata: { labels: { app: 'till' } } }),
    object('Sidecar', 'older', { egress: [{ hosts: ['*/*'] }] }),
  ];
  const lookup: MeshLookup = { list: (kind) => all.filter((one) => one.kind === kind) };
  const warned = (spec: object) =>
    crossCheck(object('Sidecar', 'it', spec), lookup).map(({ path, message }) => `${path}: ${message}`);
  const labels = (app: string) => ({ workloadSelector: { labels: { app } } });
  const hosts = (...list: string[]) => ({ ...labels('till'), egress: [{ hosts: list }] });
  t.same(warned(hosts('./cart.shop.svc.cluster.local', './*', '*/*', '~/*', 'books/*.example.com')), []);
  t.match(warned(hosts('books/cart.shop.svc.cluster.local')), [/^spec.egress\[0\].hosts\[0\]: .* imports nothing/]);
  t.match(warned(hosts('*/*', 'nobody/*')), [/^spec.egress\[0\].hosts\[1\]: nobody/]);
  t.match(warned({ ...hosts('*/*'), ...labels('nobody') }), [/^spec.workloadSelector.labels: no WorkloadGroup/]);
  t.match(warned({ egress: [{ hosts: ['*/*'] }] }), [/^spec: Sidecar older/]);
  const tls = (number: number) => ({ ...labels('till'), ingress: [{ port: { number }, tls: { mode: 'SIMPLE' } }] });
  all.push(object('PeerAuthentication', 'plain', { portLevelMtls: { '8443': { mode: 'DISABLE' } } }));
  t.same(warned(tls(8443)), []);
  t.match(warned(tls(8444)), [/^spec.ingress\[0\].tls: counts only where/]);
});

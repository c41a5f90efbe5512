// DestinationRule: what Istio's webhook accepts, refuses and warns of, and what this version itself does not take. A row stands for one rule.
import { test } from 'tap';
import { parse } from 'yaml';
import { validateObject } from '../../../../api/resources/validate.ts';

function judge(spec: string) {
  const metadata = { name: 'it', namespace: 'shop' };
  return validateObject({ apiVersion: 'networking.istio.io/v1', kind: 'DestinationRule', metadata, spec: parse(spec) });
}

const policy = (text: string): string => `{host: a, trafficPolicy: {${text}}}`;
const lb = (text: string): string => policy(`loadBalancer: {${text}}`);
const locality = (text: string): string => policy(`outlierDetection: {}, loadBalancer: {localityLbSetting: {${text}}}`);
const tls = (text: string): string => policy(`tls: {${text}}`);
const pool = (text: string): string => policy(`connectionPool: {${text}}`);
const FILES = 'clientCertificate: /etc/mesh/tls/a.pem, privateKey: /etc/mesh/tls/shop/a.key';

const ACCEPTED: readonly string[] = [
  '{host: a}',
  '{host: "*.example.com"}',
  '{host: "*"}',
  '{host: 10.1.2.3}',
  '{host: a, exportTo: ["."], workloadSelector: {matchLabels: {app: x}}}',
  '{host: a, exportTo: [shop], workloadSelector: {matchLabels: {app: x}}}',
  '{host: a, workloadSelector: {matchLabels: {app: x}}}',
  '{host: a, subsets: [{name: v1}, {name: v2, labels: {version: v2}}]}',
  ...['UNSPECIFIED', 'LEAST_CONN', 'RANDOM', 'PASSTHROUGH', 'ROUND_ROBIN', 'LEAST_REQUEST'].map((name) =>
    lb(`simple: ${name}`),
  ),
  lb('consistentHash: {httpHeaderName: x}'),
  lb('consistentHash: {httpCookie: {name: c, ttl: 0s, attributes: [{name: SameSite, value: Lax}]}}'),
  lb('consistentHash: {httpCookie: {name: c}}'),
  lb('consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}'),
  lb('consistentHash: {httpQueryParameterName: q, ringHash: {minimumRingSize: 0}}'),
  lb('warmup: {duration: 300s, minimumPercent: 5, aggression: 5}'),
  lb('simple: ROUND_ROBIN, warmupDurationSecs: 10s'),
  locality('enabled: false'),
  locality(
    'distribute: [{from: "us/z1/*", to: {"us/z1/*": 80, "us/z2/*": 20}}, {from: "us/z2/*", to: {"us/z2/*": 100}}]',
  ),
  locality('distribute: [{from: "us/*", to: {"us/a": 60, "us/*": 40}}]'),
  locality('failover: [{from: us, to: eu}, {from: eu, to: us}]'),
  locality('failoverPriority: ["topology.istio.io/network", "topology.kubernetes.io/region", version=v1]'),
  locality('failoverPriority: [tier], failover: [{from: us, to: eu}]'),
  pool('tcp: {maxConnections: 0, connectTimeout: 1ms, idleTimeout: 0s, maxConnectionDuration: 1ms, tcpKeepalive: {}}'),
  pool(
    'http: {http1MaxPendingRequests: 0, http2MaxRequests: 1, maxRetries: 2, maxConcurrentStreams: 5, h2UpgradePolicy: UPGRADE}',
  ),
  policy('outlierDetection: {consecutive5xxErrors: 0, maxEjectionPercent: 0, minHealthPercent: 100, interval: 1ms}'),
  policy('outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3}'),
  policy('tunnel: {targetHost: x.example.com, targetPort: 443}'),
  policy('tunnel: {protocol: POST, targetHost: "fd00::1", targetPort: 1}'),
  policy('proxyProtocol: {}'),
  policy('proxyProtocol: {version: V2}'),
  policy('retryBudget: {percent: 0.5, minRetryConcurrency: 0}'),
  tls('mode: DISABLE'),
  tls('mode: SIMPLE'),
  tls('mode: SIMPLE, sni: x, subjectAltNames: [x], caCertificates: /etc/mesh/tls/ca.pem, caCrl: /etc/mesh/tls/crl.pem'),
  tls('mode: SIMPLE, caCertificates: /etc/mesh/tls/shop/deep/ca.pem'),
  tls('mode: SIMPLE, insecureSkipVerify: true, sni: x'),
  tls(`mode: MUTUAL, ${FILES}`),
  tls(`mode: MUTUAL, ${FILES}, insecureSkipVerify: true`),
  '{host: a, workloadSelector: {matchLabels: {app: x}}, trafficPolicy: {tls: {mode: MUTUAL, credentialName: client}}}',
  tls('mode: ISTIO_MUTUAL, sni: x, subjectAltNames: ["spiffe://x/ns/y/sa/z"]'),
  policy(
    `portLevelSettings: [{port: {number: 80}, tls: {mode: MUTUAL, ${FILES}}}, {port: {number: 81}, loadBalancer: {simple: RANDOM}}]`,
  ),
];

const AT = 'spec.trafficPolicy';
/** Spec, and `path: part of the message` of the first finding. */
const REFUSED: readonly (readonly [string, string])[] = [
  ['{}', 'spec.host: required'],
  ['{host: "a.*.example.com"}', 'spec.host: not a valid host name'],
  ['{host: a, exportTo: ["~"]}', 'spec.exportTo[0]: not allowed'],
  ['{host: a, exportTo: ["*", b]}', 'spec.exportTo: cannot have'],
  ['{host: a, exportTo: ["*"], workloadSelector: {matchLabels: {app: x}}}', 'spec.exportTo: beyond its own namespace'],
  ['{host: a, exportTo: [".", b], workloadSelector: {matchLabels: {app: x}}}', 'spec.exportTo: beyond'],
  ['{host: a, workloadSelector: {matchLabels: {app: "x*"}}}', 'spec.workloadSelector.matchLabels: wildcard'],
  ['{host: a, subsets: [{name: v1}, {name: v1}]}', 'spec.subsets[1].name: duplicate'],
  ['{host: a, subsets: [{name: "a b"}]}', 'spec.subsets[0].name: DNS label'],
  ['{host: a, trafficPolicy: {}}', `${AT}: at least one field`],
  [lb('consistentHash: {}'), `${AT}.loadBalancer.consistentHash: one of`],
  [lb('simple: RANDOM, consistentHash: {useSourceIp: true}'), `${AT}.loadBalancer: simple and consistentHash`],
  [
    lb('consistentHash: {useSourceIp: true, maglev: {tableSize: 10}}'),
    `${AT}.loadBalancer.consistentHash.maglev.tableSize: prime`,
  ],
  [
    lb('consistentHash: {useSourceIp: true, maglev: {}}'),
    `${AT}.loadBalancer.consistentHash.maglev.tableSize: must be set`,
  ],
  [
    lb('consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}'),
    `${AT}.loadBalancer.consistentHash.maglev.tableSize: whole number`,
  ],
  [
    lb('consistentHash: {useSourceIp: true, minimumRingSize: 1, ringHash: {}}'),
    `${AT}.loadBalancer.consistentHash: only one`,
  ],
  [
    lb('consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 9000000}}'),
    `${AT}.loadBalancer.consistentHash.ringHash.minimumRingSize: whole number`,
  ],
  [lb('simple: RANDOM, warmup: {duration: 1s}'), `${AT}.loadBalancer.warmup: not supported`],
  [
    lb('consistentHash: {useSourceIp: true}, warmupDurationSecs: 1s'),
    `${AT}.loadBalancer.warmupDurationSecs: not supported`,
  ],
  [lb('warmup: {minimumPercent: 5}'), `${AT}.loadBalancer.warmup.duration: required`],
  [lb('warmup: {duration: 1s, minimumPercent: 150}'), `${AT}.loadBalancer.warmup.minimumPercent: `],
  [lb('warmup: {duration: 1s, aggression: 0.3}'), `${AT}.loadBalancer.warmup.aggression: 1 or more`],
  [
    locality('distribute: [{from: a, to: {b: 50}}]'),
    `${AT}.loadBalancer.localityLbSetting.distribute[0].to: total locality weight 50`,
  ],
  [
    locality('distribute: [{from: a, to: {b: 0, c: 100}}]'),
    `${AT}.loadBalancer.localityLbSetting.distribute[0].to.b: from 1`,
  ],
  [
    locality('distribute: [{from: a, to: {a: 100}}], failover: [{from: a, to: b}]'),
    `${AT}.loadBalancer.localityLbSetting: simultaneously`,
  ],
  [
    locality('distribute: [{from: a, to: {a: 100}}], failoverPriority: [x]'),
    `${AT}.loadBalancer.localityLbSetting.failoverPriority: no effect`,
  ],
  [
    locality('distribute: [{from: "a*b", to: {a: 100}}]'),
    `${AT}.loadBalancer.localityLbSetting.distribute[0].from: wildcard`,
  ],
  [
    locality('distribute: [{from: "a//b", to: {a: 100}}]'),
    `${AT}.loadBalancer.localityLbSetting.distribute[0].from: empty`,
  ],
  [
    locality('distribute: [{from: "*", to: {a: 100}}, {from: a, to: {a: 100}}]'),
    `${AT}.loadBalancer.localityLbSetting.distribute[1].from: overlaps`,
  ],
  [
    locality('distribute: [{from: a, to: {b: 50, b/c: 50}}]'),
    `${AT}.loadBalancer.localityLbSetting.distribute[0].to[b/c]: overlaps`,
  ],
  [locality('failover: [{from: a, to: a}]'), `${AT}.loadBalancer.localityLbSetting.failover[0]: different regions`],
  [
    locality('failover: [{from: a/z, to: b}]'),
    `${AT}.loadBalancer.localityLbSetting.failover[0].from: only specifies regions`,
  ],
  [locality('failover: [{from: a, to: "*"}]'), `${AT}.loadBalancer.localityLbSetting.failover[0].to: wildcard`],
  [
    locality('failover: [{from: a, to: b}], failoverPriority: ["topology.kubernetes.io/zone"]'),
    `${AT}.loadBalancer.localityLbSetting.failoverPriority[0]: simultaneously`,
  ],
  [pool(''), `${AT}.connectionPool: at least one field`],
  [pool('tcp: {connectTimeout: 0s}'), `${AT}.connectionPool.tcp.connectTimeout: 1ms`],
  [pool('tcp: {maxConnectionDuration: 0s}'), `${AT}.connectionPool.tcp.maxConnectionDuration: 1ms`],
  [pool('tcp: {maxConnections: -1}'), `${AT}.connectionPool.tcp.maxConnections: `],
  [pool('http: {idleTimeout: 0s}'), `${AT}.connectionPool.http.idleTimeout: 1ms`],
  [
    pool('http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}'),
    `${AT}.connectionPool.http.h2UpgradePolicy: use client protocol`,
  ],
  [
    policy('outlierDetection: {consecutiveLocalOriginFailures: 1}'),
    `${AT}.outlierDetection.consecutiveLocalOriginFailures: split`,
  ],
  [policy('outlierDetection: {maxEjectionPercent: 101}'), `${AT}.outlierDetection.maxEjectionPercent: `],
  [policy('outlierDetection: {interval: 0s}'), `${AT}.outlierDetection.interval: 1ms`],
  [policy('tunnel: {targetHost: "a b", targetPort: 1}'), `${AT}.tunnel.targetHost: FQDN or IP`],
  [policy('tunnel: {targetHost: a, targetPort: 70000}'), `${AT}.tunnel.targetPort: range`],
  [policy('tunnel: {protocol: GET, targetHost: a, targetPort: 1}'), `${AT}.tunnel.protocol: CONNECT or POST`],
  [policy('tunnel: {targetHost: a, targetPort: 1}, proxyProtocol: {}'), `${AT}.tunnel: together`],
  [policy('retryBudget: {percent: 101}'), `${AT}.retryBudget.percent: `],
  [policy('portLevelSettings: [{port: {number: 80}}]'), `${AT}.portLevelSettings[0]: at least one field`],
  [policy('portLevelSettings: [{tls: {mode: SIMPLE}}]'), `${AT}.portLevelSettings[0].port.number: need a port`],
  [tls('mode: MUTUAL'), `${AT}.tls.clientCertificate: required`],
  [tls('mode: MUTUAL, clientCertificate: /etc/mesh/tls/a.pem'), `${AT}.tls.privateKey: required`],
  [tls('mode: SIMPLE, caCertificates: /etc/ssl/ca.pem'), `${AT}.tls.caCertificates: must lie in /etc/mesh/tls/`],
  [tls('mode: SIMPLE, caCertificates: /etc/mesh/tls/../x'), `${AT}.tls.caCertificates: must lie in`],
  [tls('mode: SIMPLE, caCertificates: /etc/mesh/tls/'), `${AT}.tls.caCertificates: must lie in`],
  [tls('mode: SIMPLE, caCertificates: "/etc/mesh/tls/a~b"'), `${AT}.tls.caCertificates: must lie in`],
  [
    tls('mode: SIMPLE, caCertificates: /etc/mesh/tls/other/ca.pem'),
    `${AT}.tls.caCertificates: is for objects of namespace other`,
  ],
  [
    tls('mode: SIMPLE, clientCertificate: /etc/mesh/tls/a.pem'),
    `${AT}.tls.clientCertificate: cannot be specified in TLS mode SIMPLE`,
  ],
  [tls('mode: SIMPLE, credentialName: "configmap://x/y"'), `${AT}.tls.credentialName: name of a Secret`],
  [tls('mode: ISTIO_MUTUAL, credentialName: c'), `${AT}.tls.credentialName: cannot be specified`],
  [tls('mode: DISABLE, sni: x'), `${AT}.tls.sni: cannot be specified in TLS mode DISABLE`],
  [tls('mode: ISTIO_MUTUAL, caCertificates: /etc/mesh/tls/a.pem'), `${AT}.tls.caCertificates: cannot be specified`],
  [
    tls('mode: SIMPLE, insecureSkipVerify: true, caCertificates: /etc/mesh/tls/a.pem'),
    `${AT}.tls.caCertificates: when insecureSkipVerify`,
  ],
  [
    tls('mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [x]'),
    `${AT}.tls.subjectAltNames: when insecureSkipVerify`,
  ],
  [tls(`mode: MUTUAL, ${FILES}, credentialName: c`), `${AT}.tls.clientCertificate: cannot specify credentialName`],
];

/** Spec, and `path: part of the message` of the warning. */
const WARNED: readonly (readonly [string, string])[] = [
  [tls('mode: SIMPLE, credentialName: c'), 'spec: for gateways of this namespace'],
  ['{host: a, workloadSelector: {}}', 'spec.workloadSelector: without labels'],
  ['{host: a, subsets: [{name: v1}]}', 'spec.subsets[0]: without labels'],
  [tls('sni: ""'), `${AT}.tls: no TLS mode`],
  [tls('mode: SIMPLE, insecureSkipVerify: true'), `${AT}.tls.insecureSkipVerify: not verified`],
  [lb('localityLbSetting: {failover: [{from: a, to: b}]}'), `${AT}.loadBalancer.localityLbSetting: outlier detection`],
  [lb('localityLbSetting: {failoverPriority: [a]}'), `${AT}.loadBalancer.localityLbSetting: outlier detection`],
  [lb('warmupDurationSecs: 1s'), `${AT}.loadBalancer.warmupDurationSecs: deprecated`],
  [
    lb('consistentHash: {useSourceIp: true, minimumRingSize: 1}'),
    `${AT}.loadBalancer.consistentHash.minimumRingSize: deprecated`,
  ],
  [policy('outlierDetection: {consecutiveErrors: 1}'), `${AT}.outlierDetection.consecutiveErrors: deprecated`],
];

type Finding = { readonly path: string; readonly message: string };

const has = (findings: readonly Finding[], wanted: string): boolean => {
  const at = wanted.indexOf(': ');
  return findings.some(({ path, message }) => path === wanted.slice(0, at) && message.includes(wanted.slice(at + 2)));
};

test('accepted', async (t) => {
  for (const spec of ACCEPTED) t.same(judge(spec).violations, [], spec);
});

test('refused', async (t) => {
  for (const [spec, finding] of REFUSED) {
    const { violations } = judge(spec);
    t.ok(has(violations, finding), `${spec} -> ${finding}: ${JSON.stringify(violations)}`);
  }
});

test('warned of, and accepted', async (t) => {
  for (const [spec, finding] of WARNED) {
    const { violations, warnings } = judge(spec);
    t.same(violations, [], spec);
    t.ok(has(warnings, finding), `${spec} -> ${finding}: ${JSON.stringify(warnings)}`);
  }
});

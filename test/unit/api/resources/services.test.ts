// What may be pushed of services and workloads, and with which reason it may not: the gate as the controller has it.
import { test } from 'tap';
import { parse } from 'yaml';
import { crossCheck } from '../../../../api/resources/cross-check.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { validateObject } from '../../../../api/resources/validate.ts';

/** Spec as YAML; undefined: taken; else `path: part of the message` of what refuses it. */
type Case = readonly [spec: string, finding?: string];

function check(kind: string, apiVersion: string, cases: readonly Case[]): void {
  test(kind, async (t) => {
    for (const [yaml, finding] of cases) {
      const result = validateObject({
        apiVersion,
        kind,
        metadata: { name: 'x', namespace: 'default' },
        spec: parse(yaml),
      });
      const said = result.violations.map(({ path, message }) => `${path}: ${message}`);
      if (finding === undefined) t.strictSame(said, [], yaml);
      else
        t.ok(
          said.some(
            (line) => line.startsWith(finding.split(': ')[0] ?? '') && line.includes(finding.split(': ')[1] ?? ''),
          ),
          `${yaml}: ${said.join('; ') || 'taken'}`,
        );
    }
  });
}

const se = (more: string, hosts = 'a.example.com', port = 'number: 80, name: http, protocol: HTTP') =>
  `{hosts: [${hosts}], ports: [{${port}}], ${more}}`;

check('ServiceEntry', 'networking.istio.io/v1', [
  [se('resolution: STATIC, endpoints: [{address: 10.0.0.1, network: away}]')],
  [se('resolution: STATIC, endpoints: [{network: away}]')],
  [se('resolution: DNS, endpoints: [{network: away}]'), 'spec.endpoints[0].address: should be provided'],
  [se('resolution: STATIC, endpoints: [{address: 10.0.0.1, network: "A B"}]'), 'spec.endpoints[0].network: not a name'],
  [se('resolution: STATIC, endpoints: [{address: "unix:///run/x"}]'), 'spec.endpoints[0].address: unix sockets'],
  [se('subjectAltNames: ["spiffe://a/ns/b/sa/c", b.example.com]')],
  [se('subjectAltNames: [""]'), 'spec.subjectAltNames[0]: not be empty'],
  [se('resolution: DNS', 'a.example.com, b.example.com')],
  [se('resolution: DNS', 'a.example.com, b.example.com', 'number: 443, name: tls, protocol: TLS')],
  [
    se('resolution: DNS', 'a.example.com, b.example.com', 'number: 5, name: t, protocol: TCP'),
    'spec.hosts: multiple hosts',
  ],
  [se('resolution: DNS', 'a.example.com, b.example.com', 'number: 5, name: t'), 'spec.hosts: multiple hosts'],
  [se('resolution: NONE', 'a.example.com, b.example.com', 'number: 5, name: t, protocol: TCP')],
  [se('resolution: NONE', '"*x.example.com"')],
  [se('resolution: NONE', '"*x.example.com"', 'number: 443, name: tls, protocol: TLS'), 'spec.hosts[0]: whole labels'],
  [se('resolution: NONE', 'a.example.com', 'number: 80, name: http, protocol: HTTP, targetPort: 8080')],
  [se('resolution: NONE', 'a.example.com', 'number: 53, name: dns, protocol: UDP'), 'spec.ports[0].protocol: TCP only'],
  [
    se('resolution: NONE', 'a.example.com', 'number: 53, name: p, protocol: HTTP_PROXY'),
    'spec.ports[0].protocol: forward proxy',
  ],
  ...['HTTP', 'HTTPS', 'HTTP2', 'GRPC', 'GRPC-WEB', 'TCP', 'TLS', 'MONGO', 'MYSQL', 'REDIS', 'http', 'Grpc', ''].map(
    (protocol): Case => [se('resolution: DNS', 'a.example.com', `number: 80, name: x, protocol: "${protocol}"`)],
  ),
  [se('resolution: NONE, workloadSelector: {labels: {app: a}}'), 'spec.workloadSelector: STATIC sends'],
  ['{hosts: [a.example.com], workloadSelector: {}}'],
  [se('resolution: DYNAMIC_DNS', '"*.example.com"')],
  [se('resolution: DYNAMIC_DNS', '"*.example.com"', 'number: 443, name: tls, protocol: TLS, targetPort: 8443')],
  [se('resolution: DYNAMIC_DNS', '"*.example.com"', 'number: 80, name: http, protocol: HTTP, targetPort: 443')],
  [
    se('resolution: DYNAMIC_DNS', '"*.example.com"', 'number: 8080, name: http, protocol: HTTP, targetPort: 80'),
    'spec.ports[0].targetPort: Host header says the port',
  ],
  [
    se('resolution: DYNAMIC_DNS', '"*.example.com"', 'number: 5, name: t, protocol: TCP'),
    'spec.ports[0].protocol: names its server',
  ],
  [se('resolution: DYNAMIC_DNS', '"*.example.com"', 'number: 5, name: t'), 'spec.ports[0].protocol: names its server'],
  [se('resolution: DYNAMIC_DNS, endpoints: [{address: 10.0.0.1}]', '"*.example.com"'), 'spec.endpoints: no endpoints'],
  [
    se('resolution: DYNAMIC_DNS, workloadSelector: {labels: {a: b}}', '"*.example.com"'),
    'spec.workloadSelector: not supported',
  ],
]);

check('WorkloadEntry', 'networking.istio.io/v1', [
  ['{address: 10.0.0.1, network: away, weight: 0}'],
  ['{network: away}'],
  ['{labels: {a: b}}', 'spec.address: must be set'],
  ['{address: "unix://@x"}', 'spec.address: unix sockets'],
  ['{address: db.example.com}'],
]);

const probe = (more: string) => `{template: {serviceAccount: a}, probe: {${more}}}`;

check('WorkloadGroup', 'networking.istio.io/v1', [
  [
    probe(
      'httpGet: {port: 8080, path: /healthz, scheme: HTTPS, host: localhost, httpHeaders: [{name: Host, value: a.b}]}, initialDelaySeconds: 0, timeoutSeconds: 1, periodSeconds: 2, successThreshold: 1, failureThreshold: 3',
    ),
  ],
  [probe('tcpSocket: {port: 8080, host: "::1"}')],
  [probe('grpc: {port: 8080, service: x}')],
  [probe('httpGet: {port: 8080, host: db.example.com}'), 'spec.probe.httpGet.host: its own host'],
  [probe('tcpSocket: {port: 8080, host: 10.0.0.1}'), 'spec.probe.tcpSocket.host: its own host'],
  [probe('httpGet: {port: 15021}'), 'spec.probe.httpGet.port: belongs to the mesh'],
  [probe('tcpSocket: {port: 65536}'), 'spec.probe.tcpSocket.port: 1 to 65535'],
  [probe('httpGet: {port: 80, scheme: FTP}'), 'spec.probe.httpGet.scheme: HTTP or HTTPS'],
  [probe('httpGet: {port: 80, path: "/a b"}'), 'spec.probe.httpGet.path: no path'],
  [probe('httpGet: {port: 80, httpHeaders: [{name: "**"}]}'), 'spec.probe.httpGet.httpHeaders[0].name: '],
  [
    probe('httpGet: {port: 80, httpHeaders: [{name: a, value: "x\\ny"}]}'),
    'spec.probe.httpGet.httpHeaders[0].value: control',
  ],
  [probe('httpGet: {port: 80}, tcpSocket: {port: 80}'), 'spec.probe: at most one'],
  [probe('periodSeconds: 5'), 'spec.probe: needs one of'],
  [probe('tcpSocket: {port: 80}, failureThreshold: -1'), 'spec.probe.failureThreshold: '],
  [probe('exec: {command: []}'), 'spec.probe.exec.command: required'],
  [probe('exec: {command: [/c, é 🚀, "%n$HOME"]}')],
  ...['\\u202e', '\\u2066', '\\u200b', '\\n', '\\u001b', '\\u2028', '\\U000e0041'].map((char): [string, string] => [
    probe(`exec: {command: [/c, "a${char}b"]}`),
    'spec.probe.exec.command[1]: control or format characters',
  ]),
  [probe('exec: {}'), 'spec.probe.exec.command: required'],
  [probe('exec: {command: [/usr/local/bin/check, --fast]}, timeoutSeconds: 300, periodSeconds: 2')],
  [probe('exec: {command: [/bin/true]}, timeoutSeconds: 301'), 'spec.probe.timeoutSeconds: after 300 s'],
  [probe('exec: {command: [/bin/true]}, tcpSocket: {port: 80}'), 'spec.probe: at most one'],
  ['{template: {network: away}}'],
]);

const svc = (more: string) => `{selector: {app: a}, ports: [{port: 80}], ${more}}`;

check('Service', 'v1', [
  [svc('clusterIP: None')],
  [svc('clusterIP: None, clusterIPs: [None]')],
  [svc('clusterIPs: [None]'), 'spec.clusterIPs[0]: same as clusterIP'],
  [svc('clusterIP: 10.1.1.1'), 'spec.clusterIP: gives each service its address'],
  [svc('type: NodePort'), 'spec.type: by a Gateway'],
  [svc('type: LoadBalancer'), 'spec.type: by a Gateway'],
  [svc('externalIPs: [10.0.0.1]'), 'spec.externalIPs: CVE-2020-8554'],
  [svc('loadBalancerIP: 10.0.0.1'), 'spec.loadBalancerIP: no cloud'],
  ['{selector: {app: a}, ports: [{port: 80, nodePort: 30000}]}', 'spec.ports[0].nodePort: no nodes'],
  [svc('sessionAffinity: None, publishNotReadyAddresses: true, internalTrafficPolicy: Local')],
  [svc('sessionAffinity: ClientIP'), 'spec.sessionAffinity: useSourceIp'],
  [svc('ipFamilies: [IPv4, IPv6], ipFamilyPolicy: PreferDualStack')],
  [svc('ipFamilies: [IPv4, IPv6], ipFamilyPolicy: SingleStack'), 'spec.ipFamilies: one family'],
  [svc('ipFamilies: [IPv4, IPv4]'), 'spec.ipFamilies: once'],
  ['{selector: {app: a}, ports: [{port: 53, protocol: UDP}]}', 'spec.ports[0].protocol: TCP only'],
  ['{type: ExternalName, externalName: db.example.com, ports: [{port: 80}]}'],
  ['{type: ExternalName, externalName: db.example.com}', 'spec.ports: needs the ports'],
  ['{type: ExternalName, ports: [{port: 80}]}', 'spec.externalName: needs one'],
  ['{type: ExternalName, externalName: 10.0.0.1, ports: [{port: 80}]}', 'spec.externalName: must be a DNS name'],
  ['{type: ExternalName, externalName: localhost, ports: [{port: 80}]}', 'spec.externalName: localhost'],
  ['{type: ExternalName, externalName: a.b, clusterIP: None, ports: [{port: 80}]}', 'spec.clusterIP: ExternalName'],
  [svc('externalName: a.b'), 'spec.externalName: ExternalName only'],
]);

test('what looks wrong beside the rest of the mesh', async (t) => {
  const make = (kind: string, name: string, spec: object, labels?: Record<string, string>): MeshObject => ({
    apiVersion: kind === 'Service' ? 'v1' : 'networking.istio.io/v1',
    kind,
    metadata: { name, namespace: 'default', ...(labels === undefined ? {} : { labels }) },
    spec,
  });
  const mesh = [
    make('Service', 'db', { selector: { app: 'db' }, ports: [{ port: 5432 }] }),
    make('Service', 'gw', { selector: { app: 'gw' } }, { 'topology.istio.io/network': 'away' }),
    make('WorkloadGroup', 'db', { metadata: { labels: { app: 'db' } }, template: {} }),
    make('WorkloadEntry', 'w', { address: '10.0.0.1' }, { app: 'meta' }),
    make('ServiceEntry', 'old', { hosts: ['x.test'], resolution: 'DNS' }),
  ];
  const lookup = { list: (kind: string) => mesh.filter((one) => one.kind === kind) };
  const target = 'db.default.svc.cluster.local';
  for (const [kind, spec, warning] of [
    ['Service', { type: 'ExternalName', externalName: target, ports: [{ port: 5432 }] }],
    ['Service', { type: 'ExternalName', externalName: target, ports: [{ port: 1, targetPort: 5432 }] }],
    ['Service', { type: 'ExternalName', externalName: target, ports: [{ port: 1 }] }, 'spec.ports[0]'],
    ['Service', { type: 'ExternalName', externalName: `un${target}`, ports: [{ port: 1 }] }, 'spec.externalName'],
    ['Service', { type: 'ExternalName', externalName: 'db.example.com', ports: [{ port: 1 }] }],
    ['ServiceEntry', { hosts: ['y.test', 'x.test'], resolution: 'STATIC' }, 'spec.hosts[1]'],
    ['ServiceEntry', { hosts: ['x.test'], resolution: 'DNS' }],
    ['ServiceEntry', { hosts: ['y.test'], endpoints: [{ network: 'away' }] }],
    ['ServiceEntry', { hosts: ['y.test'], endpoints: [{ network: 'else' }] }, 'spec.endpoints[0].network'],
    ['WorkloadEntry', { network: 'else' }, 'spec.network'],
    ['WorkloadGroup', { template: { network: 'else' } }, 'spec.template.network'],
  ] as const)
    t.strictSame(
      crossCheck(make(kind, 'x', spec), lookup).map(({ path }) => path),
      warning === undefined ? [] : [warning],
      JSON.stringify(spec),
    );
});

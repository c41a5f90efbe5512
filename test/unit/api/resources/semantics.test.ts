import t from 'tap';
import { parse } from 'yaml';
import type { Enforced } from '../../../../api/resources/enforcement.ts';
import { KINDS } from '../../../../api/resources/registry.ts';
import { validateObject } from '../../../../api/resources/validate.ts';

// Semantics by themselves: as if every field were enforced.
const everything: Enforced = {
  fields: Object.fromEntries(KINDS.map((info) => [info.kind, info.fields.map((field) => `${field}.**`)])),
  values: {},
};

const API: Readonly<Record<string, string>> = {
  VirtualService: 'networking.istio.io/v1',
  DestinationRule: 'networking.istio.io/v1',
  ServiceEntry: 'networking.istio.io/v1',
  WorkloadEntry: 'networking.istio.io/v1',
  WorkloadGroup: 'networking.istio.io/v1',
  Gateway: 'networking.istio.io/v1',
  Sidecar: 'networking.istio.io/v1',
  ProxyConfig: 'networking.istio.io/v1beta1',
  PeerAuthentication: 'security.istio.io/v1',
  AuthorizationPolicy: 'security.istio.io/v1',
  RequestAuthentication: 'security.istio.io/v1',
  Telemetry: 'telemetry.istio.io/v1',
  Service: 'v1',
  Namespace: 'v1',
  Secret: 'v1',
  MeshConfig: 'hostmesh.io/v1',
};

/** Kind, spec as YAML, and what is found: undefined for fine, else `path: part of the message`. */
type Case = readonly [kind: string, spec: string, finding?: string];

const ROUTE = 'route: [{destination: {host: a}}]';
const vs = (http: string): string => `{hosts: [a], http: [${http}]}`;
const dr = (policy: string): string => `{host: a, trafficPolicy: ${policy}}`;
const se = (more: string): string =>
  `{hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP}], ${more}}`;

const virtualServices: Case[] = [
  ['VirtualService', vs(`{${ROUTE}}`)],
  ['VirtualService', vs('{route: [{destination: {host: a}, weight: 80}, {destination: {host: b}, weight: 20}]}')],
  ['VirtualService', vs('{route: [{destination: {host: a}, weight: 1}, {destination: {host: b}, weight: 2}]}')],
  ['VirtualService', vs('{route: [{destination: {host: a}, weight: 0}]}')],
  [
    'VirtualService',
    vs('{route: [{destination: {host: a}, weight: 0}, {destination: {host: b}}]}'),
    'spec.http[0].route: total destination weight = 0',
  ],
  [
    'VirtualService',
    vs('{route: [{destination: {host: a}, weight: -1}, {destination: {host: b}, weight: 2}]}'),
    'spec.http[0].route[0].weight: whole number from 0',
  ],
  ['VirtualService', vs('{route: [{destination: {host: a}, weight: 1.5}]}'), 'spec.http[0].route[0].weight: '],
  [
    'VirtualService',
    vs('{route: [{destination: {host: "*"}}]}'),
    'spec.http[0].route[0].destination.host: invalid destination host *',
  ],
  [
    'VirtualService',
    vs('{route: [{destination: {host: "a_b"}}]}'),
    'spec.http[0].route[0].destination.host: not a valid host name',
  ],
  [
    'VirtualService',
    vs('{route: [{destination: {host: a, subset: "v 1"}}]}'),
    'spec.http[0].route[0].destination.subset: subset name',
  ],
  [
    'VirtualService',
    vs('{route: [{destination: {host: a, port: {number: 70000}}}]}'),
    'spec.http[0].route[0].destination.port.number: ',
  ],
  [
    'VirtualService',
    vs('{route: [{destination: {host: a, port: {number: 0}}}]}'),
    'spec.http[0].route[0].destination.port.number: range 1 to 65535',
  ],
  ['VirtualService', vs('{}'), 'spec.http[0]: HTTP route, redirect or directResponse is required'],
  ['VirtualService', vs(`{${ROUTE}, redirect: {uri: /x}}`), 'spec.http[0]: cannot contain both route and redirect'],
  ['VirtualService', vs('{redirect: {}}'), 'spec.http[0].redirect: must specify URI'],
  ['VirtualService', vs('{redirect: {uri: /x, redirectCode: 200}}'), 'spec.http[0].redirect.redirectCode: not one of'],
  [
    'VirtualService',
    vs('{redirect: {uri: /x}, rewrite: {uri: /y}}'),
    'spec.http[0].rewrite: both rewrite and redirect',
  ],
  [
    'VirtualService',
    vs('{redirect: {port: 80, derivePort: FROM_REQUEST_PORT}}'),
    'spec.http[0].redirect: at most one of',
  ],
  ['VirtualService', vs('{directResponse: {status: 199}}'), 'spec.http[0].directResponse.status: not in range 200-599'],
  ['VirtualService', vs('{directResponse: {status: 418, body: {string: tea}}}')],
  ['VirtualService', vs(`{match: [{uri: {regex: "(?=a)"}}], ${ROUTE}}`), 'spec.http[0].match[0].uri.regex: RE2'],
  [
    'VirtualService',
    vs(`{match: [{uri: {regex: "["}}], ${ROUTE}}`),
    'spec.http[0].match[0].uri.regex: missing closing',
  ],
  [
    'VirtualService',
    vs(`{match: [{uri: {regex: ""}}], ${ROUTE}}`),
    'spec.http[0].match[0].uri.regex: should not be empty',
  ],
  [
    'VirtualService',
    vs(`{match: [{uri: {regex: "${'a'.repeat(1025)}"}}], ${ROUTE}}`),
    'spec.http[0].match[0].uri.regex: longer than 1024',
  ],
  [
    'VirtualService',
    vs(`{match: [{uri: {regex: "((abcdefghij){30}){30}"}}], ${ROUTE}}`),
    'spec.http[0].match[0].uri.regex: steps',
  ],
  [
    'VirtualService',
    vs(`{match: [{uri: {prefix: ""}}], ${ROUTE}}`),
    'spec.http[0].match[0].uri.prefix: should not be empty',
  ],
  [
    'VirtualService',
    vs(`{match: [{uri: {exact: /a, prefix: /b}}], ${ROUTE}}`),
    'spec.http[0].match[0].uri: at most one of',
  ],
  [
    'VirtualService',
    vs(`{match: [{headers: {"end user": {exact: a}}}], ${ROUTE}}`),
    'spec.http[0].match[0].headers[end user]: not a valid header name',
  ],
  ['VirtualService', vs(`{match: [{headers: {end-user: {exact: jason}}}], ${ROUTE}}`)],
  ['VirtualService', vs(`{match: [{port: 0}], ${ROUTE}}`), 'spec.http[0].match[0].port: '],
  [
    'VirtualService',
    vs(`{match: [{sourceLabels: {"a b": c}}], ${ROUTE}}`),
    'spec.http[0].match[0].sourceLabels: label key',
  ],
  [
    'VirtualService',
    vs(`{match: [{gateways: [a/b/c]}], ${ROUTE}}`),
    'spec.http[0].match[0].gateways[0]: NAMESPACE/NAME',
  ],
  ['VirtualService', vs(`{timeout: 0s, ${ROUTE}}`), 'spec.http[0].timeout: at least 1ms'],
  ['VirtualService', vs(`{timeout: 0.5ms, ${ROUTE}}`), 'spec.http[0].timeout: at least 1ms'],
  ['VirtualService', vs(`{timeout: 1.5ms, ${ROUTE}}`), 'spec.http[0].timeout: whole milliseconds'],
  ['VirtualService', vs(`{timeout: ten, ${ROUTE}}`), 'spec.http[0].timeout: not a duration'],
  ['VirtualService', vs(`{timeout: 1m30s, ${ROUTE}}`)],
  ['VirtualService', vs(`{retries: {attempts: -1}, ${ROUTE}}`), 'spec.http[0].retries.attempts: '],
  [
    'VirtualService',
    vs(`{retries: {attempts: 0, perTryTimeout: 1s}, ${ROUTE}}`),
    'spec.http[0].retries.attempts: attempts are set to 0',
  ],
  [
    'VirtualService',
    vs(`{retries: {attempts: 3, retryOn: "5xx,nonsense"}, ${ROUTE}}`),
    'spec.http[0].retries.retryOn: not a valid retryOn',
  ],
  ['VirtualService', vs(`{retries: {attempts: 3, retryOn: "5xx,gateway-error,503", perTryTimeout: 2s}, ${ROUTE}}`)],
  ['VirtualService', vs(`{rewrite: {}, ${ROUTE}}`), 'spec.http[0].rewrite: at least one of'],
  [
    'VirtualService',
    vs(`{rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}, ${ROUTE}}`),
    'spec.http[0].rewrite: only contain one of',
  ],
  [
    'VirtualService',
    vs(`{rewrite: {uriRegexRewrite: {match: a}}, ${ROUTE}}`),
    'spec.http[0].rewrite.uriRegexRewrite: both Rewrite and Match',
  ],
  ['VirtualService', vs(`{fault: {}, ${ROUTE}}`), 'spec.http[0].fault: must have an abort and/or a delay'],
  [
    'VirtualService',
    vs(`{fault: {delay: {fixedDelay: 5s, percentage: {value: 100.1}}}, ${ROUTE}}`),
    'spec.http[0].fault.delay.percentage.value: 0 to 100',
  ],
  ['VirtualService', vs(`{fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}}}, ${ROUTE}}`)],
  [
    'VirtualService',
    vs(`{fault: {abort: {httpStatus: 99}}, ${ROUTE}}`),
    'spec.http[0].fault.abort.httpStatus: not in range',
  ],
  [
    'VirtualService',
    vs(`{fault: {abort: {grpcStatus: FINE}}, ${ROUTE}}`),
    'spec.http[0].fault.abort.grpcStatus: is not supported',
  ],
  [
    'VirtualService',
    vs(`{fault: {abort: {httpStatus: 500, grpcStatus: OK}}, ${ROUTE}}`),
    'spec.http[0].fault.abort: at most one of',
  ],
  [
    'VirtualService',
    vs(`{mirror: {host: b}, mirrors: [{destination: {host: c}}], ${ROUTE}}`),
    'spec.http[0]: both mirror and mirrors',
  ],
  [
    'VirtualService',
    vs(`{mirror: {host: b}, mirrorPercentage: {value: 101}, ${ROUTE}}`),
    'spec.http[0].mirrorPercentage.value: 0 to 100',
  ],
  [
    'VirtualService',
    vs(`{corsPolicy: {allowMethods: [FETCH]}, ${ROUTE}}`),
    'spec.http[0].corsPolicy.allowMethods[0]: not a supported HTTP method',
  ],
  [
    'VirtualService',
    vs(`{headers: {request: {set: {":path": x}}}, ${ROUTE}}`),
    'spec.http[0].headers.request.set[:path]: begin with :',
  ],
  ['VirtualService', vs(`{headers: {request: {set: {":authority": x}}}, ${ROUTE}}`)],
  [
    'VirtualService',
    vs(`{headers: {response: {remove: [host]}}, ${ROUTE}}`),
    'spec.http[0].headers.response.remove[0]: can not be host',
  ],
  [
    'VirtualService',
    vs(`{headers: {request: {add: {x: "a\\nb"}}}, ${ROUTE}}`),
    'spec.http[0].headers.request.add.x: control characters',
  ],
  ['VirtualService', `{hosts: ["*"], http: [{${ROUTE}}]}`, 'spec.hosts[0]: wildcard host * is not allowed'],
  ['VirtualService', `{hosts: ["*"], gateways: [gw], http: [{${ROUTE}}]}`],
  ['VirtualService', `{hosts: ["*.com", "*.foo.com"], http: [{${ROUTE}}]}`, 'spec.hosts[1]: duplicate hosts'],
  ['VirtualService', `{hosts: ["foo.*.com"], http: [{${ROUTE}}]}`, 'spec.hosts[0]: not a valid host name'],
  ['VirtualService', `{hosts: [a], gateways: ["b@d"], http: [{${ROUTE}}]}`, 'spec.gateways[0]: '],
  ['VirtualService', `{hosts: [a], exportTo: ["*", "."], http: [{${ROUTE}}]}`, 'spec.exportTo: cannot have *'],
  ['VirtualService', `{hosts: [a], exportTo: [default, "."], http: [{${ROUTE}}]}`, 'spec.exportTo[1]: duplicate entry'],
  ['VirtualService', '{hosts: [a]}', 'spec: http, tcp or tls must be provided'],
  ['VirtualService', '{hosts: [a], tcp: [{match: [{port: 9000}]}]}', 'spec.tcp[0].route: TCP route is required'],
  [
    'VirtualService',
    `{hosts: [a], tcp: [{match: [{destinationSubnets: [10.0.0.0/33]}], ${ROUTE}}]}`,
    'spec.tcp[0].match[0].destinationSubnets[0]: CIDR',
  ],
  ['VirtualService', `{hosts: [a.com], tls: [{${ROUTE}}]}`, 'spec.tls[0].match: '],
  [
    'VirtualService',
    `{hosts: [a.com], tls: [{match: [{sniHosts: [b.com]}], ${ROUTE}}]}`,
    'spec.tls[0].match[0].sniHosts[0]: not a compatible subset',
  ],
  ['VirtualService', `{hosts: ["*.com"], tls: [{match: [{port: 443, sniHosts: [b.com]}], ${ROUTE}}]}`],
];

const destinationRules: Case[] = [
  ['DestinationRule', '{host: a, subsets: [{name: v1, labels: {version: v1}}]}'],
  ['DestinationRule', '{host: "", subsets: []}', 'spec.host: is required'],
  ['DestinationRule', '{subsets: []}', 'spec.host: is required'],
  [
    'DestinationRule',
    '{host: a, subsets: [{name: v1, labels: {v: "1"}}, {name: v1, labels: {v: "2"}}]}',
    'spec.subsets[1].name: duplicate subset names',
  ],
  ['DestinationRule', '{host: a, subsets: [{name: "", labels: {v: "1"}}]}', 'spec.subsets[0].name: must not be empty'],
  ['DestinationRule', '{host: a, subsets: [{name: v1, labels: {"a b": "1"}}]}', 'spec.subsets[0].labels: label key'],
  ['DestinationRule', dr('{}'), 'spec.trafficPolicy: at least one field'],
  ['DestinationRule', dr('{loadBalancer: {simple: ROUND_ROBIN}}')],
  ['DestinationRule', dr('{loadBalancer: {simple: BEST}}'), 'spec.trafficPolicy.loadBalancer.simple: is not one of'],
  [
    'DestinationRule',
    dr('{loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}'),
    'spec.trafficPolicy.loadBalancer: at most one of',
  ],
  [
    'DestinationRule',
    dr('{loadBalancer: {consistentHash: {}}}'),
    'spec.trafficPolicy.loadBalancer.consistentHash: needs one of',
  ],
  [
    'DestinationRule',
    dr('{loadBalancer: {consistentHash: {httpHeaderName: a, useSourceIp: true}}}'),
    'spec.trafficPolicy.loadBalancer.consistentHash: ',
  ],
  ['DestinationRule', dr('{connectionPool: {}}'), 'spec.trafficPolicy.connectionPool: at least one field'],
  [
    'DestinationRule',
    dr('{connectionPool: {tcp: {maxConnections: -1}}}'),
    'spec.trafficPolicy.connectionPool.tcp.maxConnections: ',
  ],
  [
    'DestinationRule',
    dr('{connectionPool: {tcp: {connectTimeout: 0s}}}'),
    'spec.trafficPolicy.connectionPool.tcp.connectTimeout: at least 1ms',
  ],
  [
    'DestinationRule',
    dr('{connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}'),
    'spec.trafficPolicy.connectionPool.http.h2UpgradePolicy: ',
  ],
  [
    'DestinationRule',
    dr('{outlierDetection: {maxEjectionPercent: 101}}'),
    'spec.trafficPolicy.outlierDetection.maxEjectionPercent: 0 to 100',
  ],
  [
    'DestinationRule',
    dr('{outlierDetection: {consecutiveLocalOriginFailures: 1}}'),
    'spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures: split',
  ],
  [
    'DestinationRule',
    dr('{outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 10s, maxEjectionPercent: 100}}'),
  ],
  ['DestinationRule', dr('{tls: {mode: MUTUAL}}'), 'spec.trafficPolicy.tls.clientCertificate: required for mutual'],
  [
    'DestinationRule',
    dr('{tls: {mode: ISTIO_MUTUAL, clientCertificate: /etc/mesh/tls/a.pem}}'),
    'spec.trafficPolicy.tls.clientCertificate: cannot be specified',
  ],
  [
    'DestinationRule',
    dr('{tls: {mode: SIMPLE, caCertificates: /etc/shadow}}'),
    'spec.trafficPolicy.tls.caCertificates: must lie in /etc/mesh/tls/',
  ],
  [
    'DestinationRule',
    dr('{tls: {mode: SIMPLE, caCertificates: /etc/mesh/tls/../../shadow}}'),
    'spec.trafficPolicy.tls.caCertificates: must lie in',
  ],
  [
    'DestinationRule',
    dr('{portLevelSettings: [{tls: {mode: DISABLE}}]}'),
    'spec.trafficPolicy.portLevelSettings[0].port.number: need a port',
  ],
  [
    'DestinationRule',
    dr('{portLevelSettings: [{port: {number: 80}}, {port: {number: 80}}]}'),
    'spec.trafficPolicy.portLevelSettings[1].port.number: already',
  ],
  [
    'DestinationRule',
    dr('{loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 50}}]}}}'),
    'spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to: total locality weight 50',
  ],
];

const workloads: Case[] = [
  ['ServiceEntry', se('resolution: DNS')],
  [
    'ServiceEntry',
    '{hosts: ["*"], ports: [{number: 80, name: http}], resolution: NONE}',
    'spec.hosts[0]: full wildcard',
  ],
  ['ServiceEntry', '{hosts: [], resolution: NONE}', 'spec.hosts: '],
  [
    'ServiceEntry',
    '{hosts: ["*.example.com"], ports: [{number: 80, name: http}], resolution: DNS}',
    'spec.hosts[0]: must be FQDN',
  ],
  [
    'ServiceEntry',
    '{hosts: [a.com], ports: [{number: 80, name: a}, {number: 80, name: b}], resolution: DNS}',
    'spec.ports[1].number: already defined',
  ],
  [
    'ServiceEntry',
    '{hosts: [a.com], ports: [{number: 80, name: a}, {number: 81, name: a}], resolution: DNS}',
    'spec.ports[1].name: already defined',
  ],
  [
    'ServiceEntry',
    '{hosts: [a.com], ports: [{number: 80, name: a, protocol: SMTP}], resolution: DNS}',
    'spec.ports[0].protocol: unsupported protocol',
  ],
  [
    'ServiceEntry',
    se('resolution: NONE, endpoints: [{address: 10.0.0.1}]'),
    'spec.endpoints: no endpoints should be provided',
  ],
  ['ServiceEntry', se('resolution: STATIC, endpoints: [{address: 10.0.0.1}, {address: "fd00::1"}]')],
  [
    'ServiceEntry',
    se('resolution: STATIC, endpoints: [{address: b.example.com}]'),
    'spec.endpoints[0].address: must be an IP address',
  ],
  [
    'ServiceEntry',
    se('resolution: STATIC, endpoints: [{address: 10.0.0.1, ports: {mysql: 1}}]'),
    'spec.endpoints[0].ports.mysql: not defined by the service entry',
  ],
  [
    'ServiceEntry',
    se('resolution: STATIC, endpoints: [], workloadSelector: {labels: {a: b}}'),
    'spec.workloadSelector: only one of',
  ],
  [
    'ServiceEntry',
    se('resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.com}, {address: b.com}]'),
    'spec.endpoints: 0 or 1 endpoint',
  ],
  [
    'ServiceEntry',
    se('resolution: STATIC, addresses: [10.0.0.300], endpoints: [{address: 10.0.0.1}]'),
    'spec.addresses[0]: not an IP address',
  ],
  ['ServiceEntry', se('resolution: DNS, addresses: [10.0.0.0/24]'), 'spec.addresses[0]: NONE/STATIC'],
  ...[
    '127.0.0.1',
    '127.9.9.9',
    '"::1"',
    '169.254.169.254',
    '"fe80::1"',
    '224.0.0.1',
    '"ff02::1"',
    '0.0.0.0',
    '"::"',
    '240.240.7.7',
    '"::ffff:127.0.0.1"',
    '"::ffff:7f00:1"',
  ].map(
    (address): Case => [
      'ServiceEntry',
      se(`resolution: STATIC, endpoints: [{address: ${address}}]`),
      'spec.endpoints[0].address: is not allowed',
    ],
  ),
  [
    'ServiceEntry',
    se('resolution: STATIC, endpoints: [{address: "unix:///var/run/x.sock"}]'),
    'spec.endpoints[0].address: unix sockets',
  ],
  ['ServiceEntry', se('resolution: DNS, endpoints: [{address: localhost}]'), 'spec.endpoints[0].address: localhost'],
  [
    'ServiceEntry',
    se('resolution: STATIC, endpoints: [{address: 10.0.0.1, ports: {http: 15090}}]'),
    'spec.endpoints[0].ports.http: belongs to the mesh',
  ],
  [
    'ServiceEntry',
    se('resolution: STATIC, endpoints: [{address: 10.0.0.1, locality: "a/*"}]'),
    'spec.endpoints[0].locality: wildcards',
  ],
  ['WorkloadEntry', '{address: 10.0.0.1, labels: {app: a}, serviceAccount: a}'],
  ['WorkloadEntry', '{labels: {app: a}}', 'spec.address: must be set'],
  ['WorkloadEntry', '{address: "not an address"}', 'spec.address: neither'],
  ['WorkloadEntry', '{address: 10.0.0.1, ports: {http: 15150}}', 'spec.ports.http: belongs to the mesh'],
  ['WorkloadEntry', '{address: 10.0.0.1, weight: -1}', 'spec.weight: '],
  ['WorkloadGroup', '{metadata: {labels: {app: a}}, template: {serviceAccount: a, ports: {http: 8080}}}'],
  ['WorkloadGroup', '{metadata: {labels: {app: a}}}', 'spec.template: is required'],
  ['WorkloadGroup', '{template: {address: 10.0.0.1}}', 'spec.template.address: no address'],
  ['WorkloadGroup', '{template: {serviceAccount: "A B"}}', 'spec.template.serviceAccount: '],
  ['WorkloadGroup', '{template: {serviceAccount: a}, probe: {httpGet: {port: 0}}}', 'spec.probe.httpGet.port: '],
  [
    'WorkloadGroup',
    '{template: {serviceAccount: a}, probe: {httpGet: {port: 1}, tcpSocket: {port: 1}}}',
    'spec.probe: at most one of',
  ],
];

const others: Case[] = [
  ['PeerAuthentication', '{mtls: {mode: STRICT}}'],
  ['PeerAuthentication', '{mtls: {mode: strict}}', 'spec.mtls.mode: is not one of'],
  ['PeerAuthentication', '{portLevelMtls: {8080: {mode: DISABLE}}}', 'spec.selector: portLevelMtls requires selector'],
  ['PeerAuthentication', '{selector: {matchLabels: {app: a}}, portLevelMtls: {8080: {mode: DISABLE}}}'],
  [
    'PeerAuthentication',
    '{selector: {matchLabels: {app: a}}, portLevelMtls: {0: {mode: DISABLE}}}',
    'spec.portLevelMtls[0]: range',
  ],
  ['PeerAuthentication', '{selector: {matchLabels: {"app*": a}}}', 'spec.selector.matchLabels: wildcard'],
  ['AuthorizationPolicy', '{}'],
  ['AuthorizationPolicy', '{action: DENY}', 'spec.rules: meaningless'],
  ['AuthorizationPolicy', '{rules: [{from: []}]}', 'spec.rules[0].from: must not be empty'],
  ['AuthorizationPolicy', '{rules: [{from: [{source: {}}]}]}', 'spec.rules[0].from[0].source: at least one field'],
  [
    'AuthorizationPolicy',
    '{rules: [{from: [{source: {ipBlocks: [x]}}]}]}',
    'spec.rules[0].from[0].source.ipBlocks[0]: CIDR',
  ],
  [
    'AuthorizationPolicy',
    '{rules: [{to: [{operation: {ports: ["70000"]}}]}]}',
    'spec.rules[0].to[0].operation.ports[0]: range',
  ],
  [
    'AuthorizationPolicy',
    '{rules: [{when: [{key: "request.color", values: [a]}]}]}',
    'spec.rules[0].when[0].key: unknown attribute',
  ],
  ['AuthorizationPolicy', '{rules: [{when: [{key: "request.headers[x-a]", values: [a]}]}]}'],
  ['AuthorizationPolicy', '{rules: [{when: [{key: "source.ip"}]}]}', 'spec.rules[0].when[0]: at least one of values'],
  [
    'AuthorizationPolicy',
    '{rules: [{to: [{operation: {paths: ["/a/{**}/b"]}}]}]}',
    'spec.rules[0].to[0].operation.paths[0]: {**} only at the end',
  ],
  ['RequestAuthentication', '{jwtRules: [{issuer: a, jwksUri: "file:///etc/shadow"}]}', 'spec.jwtRules[0].jwksUri: '],
  ['RequestAuthentication', '{jwtRules: [{issuer: a, jwks: "{}"}]}', 'spec.jwtRules[0].jwks: JSON Web Key Set'],
  ['Service', '{selector: {app: a}, ports: [{port: 80, targetPort: 8080}]}'],
  ['Service', '{selector: {app: a}, ports: []}', 'spec.ports: at least one port'],
  [
    'Service',
    '{selector: {app: a}, ports: [{port: 80}, {port: 81}]}',
    'spec.ports[0].name: required when there are several',
  ],
  [
    'Service',
    '{selector: {app: a}, ports: [{port: 80, name: a}, {port: 80, name: b}]}',
    'spec.ports[1].port: duplicate port',
  ],
  [
    'Service',
    '{selector: {app: a}, ports: [{port: 80, targetPort: 15006}]}',
    'spec.ports[0].targetPort: belongs to the mesh',
  ],
  [
    'Service',
    '{selector: {app: a}, ports: [{port: 80, targetPort: true}]}',
    'spec.ports[0].targetPort: an integer or a string',
  ],
  ['Gateway', '{selector: {a: b}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}'],
  [
    'Gateway',
    '{selector: {a: b}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"]}]}',
    'spec.servers[0].tls: must have TLS settings',
  ],
  ['Gateway', '{selector: {a: b}, servers: []}', 'spec.servers: at least one server'],
  ['Sidecar', '{egress: [{hosts: [a.com]}]}', 'spec.egress[0].hosts[0]: NAMESPACE/HOST'],
  [
    'Sidecar',
    '{ingress: [{port: {number: 80, name: http, protocol: HTTP}, defaultEndpoint: "unix:///x"}]}',
    'spec.ingress[0].defaultEndpoint: unix sockets',
  ],
  ['Telemetry', '{tracing: [{randomSamplingPercentage: 101}]}', 'spec.tracing[0].randomSamplingPercentage: '],
  ['ProxyConfig', '{concurrency: -1}', 'spec.concurrency: '],
  [
    'MeshConfig',
    '{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, hostOwnership: [{hosts: ["*.example.com"], namespace: shop}]}',
  ],
  [
    'MeshConfig',
    '{hostOwnership: [{hosts: ["a.b.svc.cluster.local"], namespace: shop}]}',
    'spec.hostOwnership[0].hosts[0]: belong to the namespace',
  ],
  ['MeshConfig', '{trustDomain: other.test}', 'spec.trustDomain: cannot be changed'],
];

for (const [title, cases] of Object.entries({ virtualServices, destinationRules, workloads, others })) {
  t.test(title, async (t) => {
    for (const [kind, spec, finding] of cases) {
      const name = kind === 'MeshConfig' ? 'default' : 'it';
      const input = { apiVersion: API[kind], kind, metadata: { name }, spec: parse(spec) };
      const { object, violations } = validateObject(input, { enforced: everything, trustDomain: 'mesh.test' });
      const label = `${kind} ${spec.slice(0, 120)}`;
      if (finding === undefined) {
        t.same(violations, [], label);
        t.same(object?.spec, parse(spec), `${label}: kept as it was`);
        continue;
      }
      const cut = finding.indexOf(': ');
      const [path, part] = [finding.slice(0, cut), finding.slice(cut + 2)];
      const hit = violations.some((one) => one.path === path && one.message.includes(part));
      t.ok(hit, label, { wanted: finding, found: violations });
      t.equal(object, undefined, `${label}: refused`);
    }
  });
}

t.test('warnings do not refuse', async (t) => {
  const spec = parse('{hosts: [a], http: [{route: [{destination: {host: a}}]}, {route: [{destination: {host: b}}]}]}');
  const input = { apiVersion: API.VirtualService, kind: 'VirtualService', metadata: { name: 'a' }, spec };
  const { object, warnings } = validateObject(input, { enforced: everything });
  t.ok(object);
  t.match(warnings, [{ path: 'spec.http[1]', message: /never used/ }]);
});

t.test('server-first ports without a declared protocol are warned of', async (t) => {
  const warned = (port: object): number => {
    const spec = { selector: { app: 'a' }, ports: [port] };
    const input = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'a' }, spec };
    return validateObject(input, { enforced: everything }).warnings.length;
  };
  t.equal(warned({ port: 3306 }), 1);
  t.equal(warned({ port: 80, targetPort: 25 }), 1);
  t.equal(warned({ port: 3306, name: 'db' }), 1);
  t.equal(warned({ port: 3306, name: 'tcp-db' }), 0);
  t.equal(warned({ port: 3306, appProtocol: 'mysql' }), 0);
  t.equal(warned({ port: 80 }), 0);
});

// VirtualService: what Istio's webhook accepts, refuses and warns of. Each row stands for one of its rules, or for one of Envoy's.
import { test } from 'tap';
import { parse } from 'yaml';
import { crossCheck } from '../../../../api/resources/cross-check.ts';
import type { Enforced } from '../../../../api/resources/enforcement.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { validateObject } from '../../../../api/resources/validate.ts';
import { cpuMs } from '../../../fakes/cpu-time.ts';

const EVERYTHING: Enforced = { fields: { VirtualService: ['spec.**'] }, values: {} };
const ROUTE = 'route: [{destination: {host: a}}]';
const vs = (...rules: string[]): string => `{hosts: [a], http: [${rules.join(', ')}]}`;
const one = (more: string): string => vs(`{${more}, ${ROUTE}}`);

function judge(spec: string, enforced: Enforced | 'this version' = EVERYTHING) {
  const input = {
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name: 'it' },
    spec: parse(spec),
  };
  return validateObject(input, enforced === 'this version' ? {} : { enforced });
}

const ACCEPTED: readonly string[] = [
  '{http: [{route: [{destination: {host: a}}]}]}',
  vs('{match: [{uri: {prefix: /x}}], delegate: {name: d}}'),
  vs('{delegate: {name: d, namespace: other}}', `{${ROUTE}}`),
  one('headers: {request: {set: {Host: x}}}'),
  one('headers: {request: {add: {":authority": x}}}'),
  one(
    'headers: {request: {set: {a: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", b: "100%%", c: "%START_TIME(%s.%3f)%"}}}',
  ),
  one('headers: {response: {add: {a: "x %REQ(:path):10% y", b: ""}}}'),
  one('match: [{headers: {x: {}}, withoutHeaders: {y: {}}, queryParams: {z: {exact: ""}}}]'),
  one('match: [{headers: {":method": {exact: GET}}}]'),
  one(
    'match: [{uri: {exact: /A}, ignoreUriCase: true, statPrefix: x, name: m, port: 80, sourceNamespace: n, sourceLabels: {a: b}}]',
  ),
  one('match: [{}]'),
  one('retries: {attempts: 0}'),
  one('retries: {attempts: 3, retryOn: "retriable-status-codes,reset-before-request,cancelled,418,503"}'),
  one('retries: {attempts: 3, backoff: 10ms, retryIgnorePreviousHosts: false, retryRemoteLocalities: true}'),
  one('rewrite: {uriRegexRewrite: {match: "^/(a)/(b)", rewrite: "/\\\\2/\\\\1\\\\\\\\"}}'),
  one('corsPolicy: {allowOrigins: [{exact: "*"}, {regex: ".*"}], allowHeaders: ["*"], maxAge: 24h}'),
  one('mirrors: [{destination: {host: b}}, {destination: {host: c}, percentage: {value: 0}}]'),
  one('fault: {delay: {fixedDelay: 1ms, percentage: {value: 0.0001}}}'),
  vs('{redirect: {uri: /x, derivePort: FROM_REQUEST_PORT, scheme: https, redirectCode: 308}}'),
  vs('{redirect: {uri: "%PREFIX()%/x"}, match: [{uri: {prefix: /y}}]}'),
  vs(`{directResponse: {status: 503, body: {string: ${'x'.repeat(60_000)}}}}`),
  vs('{directResponse: {status: 200, body: {bytes: aGk=}}, headers: {response: {set: {a: b}}}}'),
  '{hosts: ["*.a.example", b.example, 10.0.0.1], http: [{route: [{destination: {host: "*.a.example"}}]}]}',
  `{hosts: [a.example], exportTo: ["~"], tls: [{match: [{sniHosts: [a.example]}], ${ROUTE}}]}`,
  `{hosts: ["*.example"], tls: [{match: [{sniHosts: ["*.b.example", c.example], destinationSubnets: [10.0.0.0/8]}], ${ROUTE}}]}`,
  `{hosts: [a], tcp: [{match: [{port: 1, gateways: [mesh], sourceLabels: {a: b}, sourceNamespace: n}], ${ROUTE}}]}`,
];

const REFUSED: readonly (readonly [string, string, RegExp])[] = [
  [`{gateways: [g], http: [{${ROUTE}}]}`, 'spec.gateways', /delegate virtual service.*no gateways/],
  [`{tcp: [{${ROUTE}}]}`, 'spec.tcp', /no tcp route/],
  [`{tls: [{match: [{sniHosts: [a.b]}], ${ROUTE}}]}`, 'spec.tls', /no tls route/],
  ['{http: [{delegate: {name: d}}]}', 'spec.http[0].delegate', /cannot contain delegate/],
  [vs(`{delegate: {name: d}, ${ROUTE}}`), 'spec.http[0]', /both route and delegate/],
  [vs('{delegate: {name: d}, redirect: {uri: /}}'), 'spec.http[0]', /both redirect and delegate/],
  [vs('{delegate: {namespace: n}}'), 'spec.http[0].delegate.name', /needs the name/],
  [
    vs('{match: [{uri: {regex: a}}], delegate: {name: d}}'),
    'spec.http[0].match[0].uri.regex',
    /does not support regex/,
  ],
  [`{http: [{match: [{headers: {x: {regex: a}}}], ${ROUTE}}]}`, 'spec.http[0].match[0].headers.x.regex', /regex/],
  [vs('{redirect: {uri: /}, directResponse: {status: 200}}'), 'spec.http[0]', /both redirect and directResponse/],
  [vs('{redirect: {uri: /}, fault: {abort: {httpStatus: 500}}}'), 'spec.http[0].fault', /both fault and redirect/],
  [vs('{directResponse: {status: 200}, rewrite: {uri: /}}'), 'spec.http[0].rewrite', /both rewrite and directResponse/],
  [vs('{redirect: {uri: /, redirectCode: 304}}'), 'spec.http[0].redirect.redirectCode', /not one of/],
  [vs('{redirect: {scheme: ftp}}'), 'spec.http[0].redirect.scheme', /http or https/],
  [
    one('rewrite: {authority: x}, headers: {request: {set: {host: y}}}'),
    'spec.http[0]',
    /cannot be set multiple times/,
  ],
  [one('headers: {request: {set: {host: y}, add: {":authority": z}}}'), 'spec.http[0]', /cannot be set multiple times/],
  [one('headers: {response: {set: {host: y}}}'), 'spec.http[0].headers.response.set.host', /can not be host/],
  [one('headers: {request: {remove: [host]}}'), 'spec.http[0].headers.request.remove[0]', /can not be host/],
  [one('headers: {request: {set: {a: "10%"}}}'), 'spec.http[0].headers.request.set.a', /single %/],
  [one('headers: {request: {set: {a: "%START_TIME%%"}}}'), 'spec.http[0].headers.request.set.a', /single %/],
  [
    one('headers: {request: {set: {a: "%ENVIRONMENT(PATH)%"}}}'),
    'spec.http[0].headers.request.set.a',
    /not supported: %ENVIR/,
  ],
  [
    one('headers: {request: {set: {a: "%FILE_CONTENT(/etc/passwd)%"}}}'),
    'spec.http[0].headers.request.set.a',
    /%FILE_/,
  ],
  [one('headers: {request: {set: {a: "%REQ%"}}}'), 'spec.http[0].headers.request.set.a', /needs arguments/],
  [one('headers: {request: {set: {a: "%PROTOCOL(x)%"}}}'), 'spec.http[0].headers.request.set.a', /takes no arguments/],
  [one('headers: {request: {set: {a: "%PROTOCOL:3%"}}}'), 'spec.http[0].headers.request.set.a', /takes no length/],
  [one('headers: {request: {set: {a: "%NOBODY%"}}}'), 'spec.http[0].headers.request.set.a', /%NOBODY%/],
  [
    one('match: [{headers: {"@request.auth.claims.group": {exact: x}}}]'),
    'spec.http[0].match[0].headers[@request.auth.claims.group]',
    /gateways only/,
  ],
  [one('retries: {retryOn: 5xx}'), 'spec.http[0].retries.attempts', /attempts are set to 0/],
  [
    one('retries: {attempts: 0, retryRemoteLocalities: true}'),
    'spec.http[0].retries.attempts',
    /attempts are set to 0/,
  ],
  [one('retries: {attempts: 2, retryOn: "5xx, 503"}'), 'spec.http[0].retries.retryOn', /" 503" is not a valid/],
  [one('retries: {attempts: 2, retryOn: "299"}'), 'spec.http[0].retries.retryOn', /not a valid/],
  [one('retries: {attempts: 2, backoff: 0s}'), 'spec.http[0].retries.backoff', /at least 1ms/],
  [
    one('rewrite: {uriRegexRewrite: {match: "a", rewrite: "\\\\1"}}'),
    'spec.http[0].rewrite.uriRegexRewrite.rewrite',
    /group 1/,
  ],
  [
    one('rewrite: {uriRegexRewrite: {match: "a", rewrite: "\\\\x"}}'),
    'spec.http[0].rewrite.uriRegexRewrite.rewrite',
    /digit/,
  ],
  [one('corsPolicy: {allowOrigins: [{}]}'), 'spec.http[0].corsPolicy.allowOrigins[0]', /not a valid match type/],
  [one('corsPolicy: {maxAge: 1500ms}'), 'spec.http[0].corsPolicy.maxAge', /seconds precision/],
  [
    one('fault: {abort: {httpStatus: 500, percentage: {value: 0.00001}}}'),
    'spec.http[0].fault.abort.percentage.value',
    /0\.0001/,
  ],
  [
    one('fault: {abort: {http2Error: x, percentage: {value: 1}}}'),
    'spec.http[0].fault.abort.http2Error',
    /not supported yet/,
  ],
  [
    one('fault: {delay: {exponentialDelay: 1s, percentage: {value: 1}}}'),
    'spec.http[0].fault.delay.exponentialDelay',
    /not supp/,
  ],
  [one('mirrors: [{percentage: {value: 1}}]'), 'spec.http[0].mirrors[0].destination', /required/],
  [one('timeout: 0s'), 'spec.http[0].timeout', /at least 1ms/],
  [vs('{route: [{destination: {host: 10.0.0.1}}]}'), 'spec.http[0].route[0].destination.host', /is an address/],
  [
    `{hosts: ["*.e.x"], tls: [{match: [{sniHosts: ["*-b.e.x"]}], ${ROUTE}}]}`,
    'spec.tls[0].match[0].sniHosts[0]',
    /label by itself/,
  ],
];

const WARNED: readonly (readonly [string, string, RegExp])[] = [
  [one('fault: {abort: {httpStatus: 500}}'), 'spec.http[0].fault.abort', /without a percentage/],
  [one('fault: {abort: {percentage: {value: 1}}}'), 'spec.http[0].fault.abort', /error type not set/],
  [one('fault: {delay: {fixedDelay: 1s, percent: 5}}'), 'spec.http[0].fault.delay.percent', /deprecated/],
  [one('mirror: {host: b}, mirrorPercent: 5'), 'spec.http[0].mirrorPercent', /deprecated/],
  [vs('{redirect: {uri: /}, timeout: 1s}'), 'spec.http[0].timeout', /has no effect/],
  [vs('{directResponse: {status: 200}, corsPolicy: {maxAge: 1s}}'), 'spec.http[0].corsPolicy', /has no effect/],
  [vs('{directResponse: {status: 200}, retries: {attempts: 1}}'), 'spec.http[0].retries', /has no effect/],
  [one('match: [{headers: {method: {exact: GET}}}]'), 'spec.http[0].match[0].headers.method', /match's field method/],
  [`{hosts: [a.b], tls: [{match: [{sniHosts: [1.2.3.4]}], ${ROUTE}}]}`, 'spec.tls[0].match[0].sniHosts[0]', /SNI spec/],
  [
    vs(`{${ROUTE}}`, `{match: [{uri: {prefix: /a}}], ${ROUTE}}`),
    'spec.http[1]',
    /spec\.http\[0\] before it has no match/,
  ],
  [
    vs(`{match: [{uri: {prefix: /}}], ${ROUTE}}`, `{match: [{headers: {a: {}}}], ${ROUTE}}`),
    'spec.http[1]',
    /before it takes/,
  ],
  [
    vs(`{match: [{uri: {prefix: /a}}], ${ROUTE}}`, `{match: [{uri: {exact: /ab}}, {uri: {prefix: /b}}], ${ROUTE}}`),
    'spec.http[1].match[0]',
    /spec\.http\[0\]\.match\[0\] before it takes/,
  ],
  [
    vs(
      `{match: [{headers: {a: {}}}], ${ROUTE}}`,
      `{match: [{headers: {a: {exact: x}}, method: {exact: GET}}], ${ROUTE}}`,
    ),
    'spec.http[1]',
    /takes all/,
  ],
  [
    vs(`{match: [{uri: {prefix: /A}, ignoreUriCase: true}], ${ROUTE}}`, `{match: [{uri: {prefix: /aB}}], ${ROUTE}}`),
    'spec.http[1]',
    /takes all/,
  ],
  [`{hosts: [a], tcp: [{match: [{port: 1}], ${ROUTE}}, {match: [{port: 1}], ${ROUTE}}]}`, 'spec.tcp[1]', /never used/],
  [
    `{hosts: ["*.b"], tls: [{match: [{sniHosts: [c.b]}], ${ROUTE}}, {match: [{sniHosts: [c.b]}], ${ROUTE}}]}`,
    'spec.tls[1]',
    /never used/,
  ],
];

/** Rules that look alike and are each reached. */
const REACHED: readonly string[] = [
  vs(`{match: [{uri: {exact: /a}}], ${ROUTE}}`, `{match: [{uri: {prefix: /a}}], ${ROUTE}}`, `{${ROUTE}}`),
  vs(`{match: [{uri: {prefix: /a}, headers: {x: {}}}], ${ROUTE}}`, `{match: [{uri: {prefix: /a}}], ${ROUTE}}`),
  vs(`{match: [{uri: {prefix: /a}, port: 80}], ${ROUTE}}`, `{match: [{uri: {prefix: /a}, port: 81}], ${ROUTE}}`),
  vs(`{match: [{uri: {prefix: /a}}], ${ROUTE}}`, `{match: [{uri: {prefix: /a}, ignoreUriCase: true}], ${ROUTE}}`),
  vs(`{match: [{sourceLabels: {a: b}}], ${ROUTE}}`, `{match: [{sourceLabels: {a: c}}], ${ROUTE}}`),
  vs(`{match: [{withoutHeaders: {a: {}}}], ${ROUTE}}`, `{match: [{uri: {prefix: /a}}], ${ROUTE}}`),
  vs(`{match: [{gateways: [g]}], ${ROUTE}}`, `{match: [{uri: {prefix: /a}}], ${ROUTE}}`),
  vs(`{match: [{uri: {regex: "a.*"}}], ${ROUTE}}`, `{match: [{uri: {regex: "a.+"}}], ${ROUTE}}`),
  `{hosts: ["*.b"], tls: [{match: [{sniHosts: ["*.b"]}], ${ROUTE}}, {match: [{sniHosts: [c.b]}], ${ROUTE}}]}`,
  `{hosts: [a], tcp: [{match: [{destinationSubnets: [10.0.0.0/8]}], ${ROUTE}}, {match: [{port: 1}], ${ROUTE}}]}`,
];

test('accepted, and kept as written', async (t) => {
  for (const spec of ACCEPTED) {
    const { object, violations } = judge(spec);
    t.same(violations, [], spec.slice(0, 140));
    t.same(object?.spec, parse(spec), spec.slice(0, 140));
  }
});

test('refused, with the path', async (t) => {
  for (const [spec, path, message] of REFUSED) {
    const { object, violations } = judge(spec);
    t.ok(
      violations.some((one) => one.path === path && message.test(one.message)),
      `${spec}: ${path}`,
      { violations },
    );
    t.equal(object, undefined, spec);
  }
});

test('warned of, and accepted', async (t) => {
  for (const [spec, path, message] of WARNED) {
    const { object, warnings } = judge(spec);
    t.ok(object, spec);
    t.ok(
      warnings.some((one) => one.path === path && message.test(one.message)),
      `${spec}: ${path}`,
      { warnings },
    );
  }
});

test('no false alarm', async (t) => {
  for (const spec of REACHED) t.same(judge(spec).warnings, [], spec);
});

test('what is not enforced says why', async (t) => {
  const spec = `{hosts: [a], tcp: [{match: [{sourceSubnet: 10.0.0.0/8}], ${ROUTE}}]}`;
  const { violations } = judge(spec, 'this version');
  t.match(violations, [{ path: 'spec.tcp[0].match[0].sourceSubnet', message: /not supported: Istio neither/ }]);
});

test('a body above 1 MiB is refused, one above 100 KiB warned of', async (t) => {
  const body = (size: number) => judge(vs(`{directResponse: {status: 200, body: {string: ${'x'.repeat(size)}}}}`));
  const refused = (result: ReturnType<typeof judge>) => result.object === undefined;
  t.notOk(refused(body(100_000)));
  t.ok(refused(body(1_048_577)));
});

test('thousands of matches are judged in time', async (t) => {
  const rules = Array.from(
    { length: 200 },
    (_, i) => `{match: [${Array.from({ length: 12 }, (_, k) => `{uri: {prefix: /${i}/${k}/}}`)}], ${ROUTE}}`,
  );
  const started = cpuMs();
  const { violations } = judge(vs(...rules));
  t.same(violations, []);
  t.ok(cpuMs() - started < 3000, `${Math.round(cpuMs() - started)} ms`);
});

test('delegation beside the rest of the mesh', async (t) => {
  const of = (name: string, namespace: string, spec: string): MeshObject => ({
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name, namespace },
    spec: parse(spec),
  });
  const root = of(
    'root',
    'a',
    '{hosts: [x.example], http: [{delegate: {name: d, namespace: b}}, {delegate: {name: own}}]}',
  );
  const rule = 'http: [{directResponse: {status: 200}}]';
  const own = of('own', 'a', `{${rule}}`);
  const meshConfig = { ...of('default', '', '{defaultVirtualServiceExportTo: ["."]}'), kind: 'MeshConfig' };
  const rows: readonly (readonly [string, MeshObject, MeshObject[], string[]])[] = [
    ['private by MeshConfig', root, [own, of('d', 'b', `{${rule}}`), meshConfig], ['spec.http[0].delegate']],
    ['its own word counts', root, [own, of('d', 'b', `{exportTo: ["*"], ${rule}}`), meshConfig], []],
    ['all there', root, [own, of('d', 'b', `{${rule}}`)], []],
    ['missing', root, [own], ['spec.http[0].delegate']],
    ['private', root, [own, of('d', 'b', `{exportTo: ["."], ${rule}}`)], ['spec.http[0].delegate']],
    ['exported by name', root, [own, of('d', 'b', `{exportTo: [a], ${rule}}`)], []],
    ['no delegate', root, [own, of('d', 'b', `{hosts: [y.example], ${rule}}`)], ['spec.http[0].delegate']],
    ['used', own, [root], []],
    ['used by nobody', own, [of('d', 'b', `{${rule}}`)], ['spec.hosts']],
  ];
  for (const [what, object, others, paths] of rows) {
    const lookup = { list: (kind: string) => others.filter((one) => one.kind === kind) };
    t.same(
      crossCheck(object, lookup).map(({ path }) => path),
      paths,
      what,
    );
  }
});

test('what the expressions of one object compile to together is bounded', async (t) => {
  const many = (count: number) =>
    vs(...Array.from({ length: count }, (_, i) => `{match: [{uri: {regex: "/(a|b)*a(a|b){${400 + i}}x"}}], ${ROUTE}}`));
  t.same(judge(many(5)).violations, []);
  t.match(judge(many(12)).violations, [{ path: 'spec.http', message: /at most 10000 steps together/ }]);
});

import { readFileSync } from 'node:fs';
import { test } from 'tap';
import { planLab } from '../../../../scripts/lib/lab/plan.ts';
import { dnsSockets } from '../../../../scripts/lib/lab/programs.ts';
import { parseTopology } from '../../../../scripts/lib/lab/topology.ts';

const GOOD = `controllers: 1
hosts:
  - name: a
    agent: true
    gateway: false
    workloads:
      - {name: client, namespace: shop, serviceAccount: client, labels: {app: client}, locality: eu/z1, user: hm-client, ports: {http: 7070}}
      - {name: batch, user: hm-batch, locality: eu/z1}
  - name: b
    workloads: [{name: reviews, labels: {app: reviews, version: v1}, ports: {http: 9080}}]
  - name: c
    workloads: [{name: reviews, labels: {app: reviews, version: v2}, ports: {http: 9080}}]
  - {name: plain, agent: false}
`;

test('a topology becomes machines, groups, bindings and users', (t) => {
  const plan = planLab(parseTopology(GOOD, 'x.yaml'));
  t.strictSame(
    plan.controllers.map((n) => [n.name, n.netns, n.ip4, n.ip6]),
    [['ctl1', 'hm-ctl1', '10.77.0.2', 'fd77::2']],
  );
  t.strictSame(
    plan.hosts.map((h) => [h.name, h.ip4, h.ip6, h.agent, h.locality]),
    [
      ['a', '10.77.0.11', 'fd77::11', true, 'eu/z1'],
      ['b', '10.77.0.12', 'fd77::12', true, ''],
      ['c', '10.77.0.13', 'fd77::13', true, ''],
      ['plain', '10.77.0.14', 'fd77::14', false, ''],
    ],
  );
  t.strictSame(plan.hosts[0]?.bindings, [
    { group: 'shop/client', user: 'hm-client' },
    { group: 'default/batch', user: 'hm-batch' },
  ]);
  t.strictSame(plan.hosts[0]?.namespaces, ['shop', 'default']);
  t.strictSame(
    plan.hosts.slice(1, 3).map((h) => h.bindings[0]?.group),
    ['default/reviews-b', 'default/reviews-c'],
    'one template a group',
  );
  t.strictSame(plan.users, ['hm-client', 'hm-batch', 'hm-reviews']);
  t.strictSame(plan.groups.find((g) => g.metadata.name === 'reviews-c')?.spec, {
    metadata: { labels: { app: 'reviews', version: 'v2' } },
    template: { serviceAccount: 'default', labels: { app: 'reviews', version: 'v2' }, ports: { http: 9080 } },
  });
  t.strictSame(plan.groups.find((g) => g.metadata.name === 'batch')?.spec, {
    metadata: { labels: { app: 'batch' } },
    template: { serviceAccount: 'default', labels: { app: 'batch' }, ports: {} },
  });
  t.strictSame(
    dnsSockets(plan.hosts[0]!).map((s) => `${s.type} ${s.address} ${s.port}`),
    [
      'udp 127.0.0.1 15053',
      'tcp 127.0.0.1 15053',
      'udp ::1 15053',
      'tcp ::1 15053',
      'udp 127.0.0.1 15054',
      'tcp 127.0.0.1 15054',
      'udp ::1 15054',
      'tcp ::1 15054',
    ],
  );
  t.end();
});

test('a gateway has a group and no user', (t) => {
  const workloads = '[{name: edge, namespace: istio-system, labels: {istio: ingressgateway}}]';
  const plan = planLab(parseTopology(`hosts: [{name: e, gateway: true, workloads: ${workloads}}]\n`, 'x.yaml'));
  t.strictSame(plan.users, []);
  t.strictSame(plan.hosts[0]?.bindings, []);
  t.strictSame(plan.hosts[0]?.gateways, ['istio-system/edge']);
  t.strictSame(
    plan.groups.map((g) => `${g.metadata.namespace}/${g.metadata.name}`),
    ['istio-system/edge'],
  );
  t.end();
});

test('two hosts with the same workload share one group', (t) => {
  const host = (name: string) => `  - {name: ${name}, workloads: [{name: web, ports: {http: 80}}]}\n`;
  const plan = planLab(parseTopology(`hosts:\n${host('a')}${host('b')}`, 'x.yaml'));
  t.strictSame(
    plan.groups.map((g) => g.metadata.name),
    ['web'],
  );
  t.end();
});

const one = (workload: string, host = '') => `hosts:\n  - {name: a, ${host} workloads: [${workload}]}\n`;

const refused: readonly (readonly [string, string, RegExp])[] = [
  ['an unknown key', 'controlers: 1\n', /x\.yaml:1:1: unknown key controlers; allowed here: controllers, hosts/],
  ['an unknown key of a host', 'hosts: [{name: a, kind: vm}]\n', /unknown key hosts\[0\]\.kind/],
  ['an unknown key of a workload', one('{name: w, port: 80}'), /unknown key hosts\[0\]\.workloads\[0\]\.port;/],
  ['three controllers', 'controllers: 3\n', /controllers: expected 0 or 1/],
  ['a long name', 'hosts: [{name: abcdefghijklm}]\n', /hosts\[0\]\.name: expected at most 12/],
  ['a reserved name', 'hosts: [{name: ctl1}]\n', /hosts\[0\]\.name/],
  ['a name twice', 'hosts: [{name: a}, {name: a}]\n', /host a is there twice/],
  ['no name', 'hosts: [{agent: true}]\n', /hosts\[0\]\.name is required/],
  ['an agent without a controller', 'controllers: 0\nhosts: [{name: a}]\n', /needs a controller/],
  ['workloads on a plain machine', one('{name: w}', 'agent: false,'), /workloads: a host without an agent/],
  ['one user for two workloads', one('{name: v, user: u}, {name: w, user: u}'), /user u runs two workloads/],
  ['one port for two workloads', one('{name: v, ports: {a: 80}}, {name: w, ports: {b: 80}}'), /port 80 is v's already/],
  ['root as a workload', one('{name: w, user: root}'), /user root cannot run a workload/],
  ['a port that is no number', one('{name: w, ports: {http: "80"}}'), /ports: http: expected a whole number/],
  ['a nested label', one('{name: w, labels: {app: {x: 1}}}'), /labels\.app: expected a text/],
  ['two localities on a host', one('{name: v, locality: a}, {name: w, locality: b}'), /a host is in one place/],
];

test('what a topology may not say is refused with its place', (t) => {
  for (const [name, text, expected] of refused)
    t.throws(() => parseTopology(text, 'x.yaml'), { code: 'CONFIG_INVALID', message: expected }, name);
  t.end();
});

test('the documented example is a topology', (t) => {
  const file = 'docs/examples/lab.yaml';
  const plan = planLab(parseTopology(readFileSync(file, 'utf8'), file));
  t.strictSame(
    plan.groups.map((g) => `${g.metadata.namespace}/${g.metadata.name}`),
    ['default/client', 'default/reviews-b', 'default/reviews-c', 'default/ratings'],
  );
  t.end();
});

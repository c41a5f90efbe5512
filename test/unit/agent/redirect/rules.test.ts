import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { permit } from '../../../../agent/redirect/policy.ts';
import { canonicalCidr, NO_RULES, renderRules } from '../../../../agent/redirect/rules.ts';
import type { RedirectSpec } from '../../../../agent/redirect/spec.ts';
import { restoreText, TABLES } from '../../../../agent/redirect/tables.ts';
import { buildPolicy, buildSpec, UID } from '../../../builders/redirect-spec.ts';

const many = Array.from({ length: 20 }, (_, i) => i);
const cases: Record<string, RedirectSpec> = {
  'two-workloads': permit(buildSpec(), buildPolicy()),
  'no-workloads': permit(buildSpec({ workloads: [], inboundPorts: [] }), buildPolicy()),
  'no-dns': permit(buildSpec({ dns: false }), buildPolicy()),
  'dns-port-excluded': permit(buildSpec(), buildPolicy({ neverPorts: new Set([22, 53]) })),
  'all-permissive': permit(
    buildSpec({ inboundPorts: buildSpec().inboundPorts.map((p) => ({ ...p, permissive: true })) }),
    buildPolicy(),
  ),
  excludes: permit(
    buildSpec({ excludeCidrs: ['10.1.2.3/24', 'fd77:0:0::1', '192.0.2.1'], excludePorts: [5432] }),
    buildPolicy({ excludeCidrs: ['2001:db8::/32'] }),
  ),
  'further-owner': permit(
    buildSpec({ inboundPorts: [{ port: 80, permissive: false, ownerUids: [UID.web, UID.friend] }] }),
    buildPolicy({ portOwnerUids: new Set([UID.friend]) }),
  ),
  'local-ports': permit(
    buildSpec({
      localPorts: [
        { kind: 'application', port: 8081, permissive: false, ownerUids: [UID.web] },
        { kind: 'application', port: 9091, permissive: true, ownerUids: [UID.news] },
        { kind: 'proxy', port: 3306, address: '127.0.0.1', permissive: false, ownerUids: [UID.web] },
        { kind: 'proxy', port: 3307, address: '::1', permissive: false, ownerUids: [UID.web] },
      ],
    }),
    buildPolicy(),
  ),
  'many-ports': permit(
    buildSpec({ inboundPorts: many.map((i) => ({ port: 7000 + i, permissive: i % 2 === 0, ownerUids: [UID.web] })) }),
    buildPolicy(),
  ),
};

for (const [name, spec] of Object.entries(cases)) {
  for (const family of ['v4', 'v6'] as const) {
    t.test(`golden: ${name} ${family}`, async (t) => {
      const file = fileURLToPath(new URL(`../../../golden/redirect/${name}.${family}.rules`, import.meta.url));
      const wanted = renderRules(spec, family);
      const text = TABLES.map((table) => restoreText(table, NO_RULES.get(table)!, wanted.get(table)!)).join('');
      if (process.env.UPDATE_GOLDEN === '1') writeFileSync(file, text);
      t.equal(text, readFileSync(file, 'utf8'));
      t.notMatch(text, /-F |--flush|:(OUTPUT|INPUT|PREROUTING) /, 'never flushes, never sets a policy');
    });
  }
}

t.test('same spec in another order gives the same text', async (t) => {
  const spec = cases['two-workloads']!;
  const turned = { ...spec, workloads: [...spec.workloads].reverse(), inboundPorts: [...spec.inboundPorts].reverse() };
  t.strictSame(renderRules(turned, 'v4'), renderRules(spec, 'v4'));
});

t.test('canonicalCidr prints what iptables-save prints', async (t) => {
  for (const [given, family, wanted] of [
    ['10.1.2.3/24', 'v4', '10.1.2.0/24'],
    ['10.1.2.3', 'v4', '10.1.2.3/32'],
    ['255.255.255.255/0', 'v4', '0.0.0.0/0'],
    ['FD00:0:0:1::5/64', 'v6', 'fd00:0:0:1::/64'],
    ['::1', 'v6', '::1/128'],
    ['::ffff:10.0.0.1', 'v6', '::ffff:a00:1/128'],
    ['1:2:3:4:5:6:7:8/127', 'v6', '1:2:3:4:5:6:7:8/127'],
  ] as const)
    t.equal(canonicalCidr(given, family), wanted, given);
});

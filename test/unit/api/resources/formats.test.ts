import t from 'tap';
import {
  cidrsOverlap,
  dnsNameFault,
  forbiddenAddress,
  hostsMatch,
  hostWithin,
  ipVersion,
  isMeshPort,
  parseCidr,
  parseDuration,
} from '../../../../api/resources/formats.ts';

t.test('addresses', async (t) => {
  const table: Record<string, 0 | 4 | 6> = {
    '10.0.0.1': 4,
    '255.255.255.255': 4,
    '10.0.0.256': 0,
    '10.0.0': 0,
    '10.00.0.1': 0,
    '1.2.3.4.5': 0,
    '': 0,
    a: 0,
    '::': 6,
    '::1': 6,
    'fd00::1': 6,
    '1:2:3:4:5:6:7:8': 6,
    '1:2:3:4:5:6:7': 0,
    '1::2::3': 0,
    '1:2:3:4:5:6:7::8': 0,
    '::ffff:10.0.0.1': 6,
    '::ffff:10.0.0.256': 0,
    'fe80::1%eth0': 0,
    ':::': 0,
    '12345::': 0,
    ':1': 0,
  };
  for (const [text, version] of Object.entries(table)) t.equal(ipVersion(text), version, text);
  t.equal(parseCidr('10.0.0.0/33'), undefined);
  t.equal(parseCidr('10.0.0.0/8/8'), undefined);
  t.same(parseCidr('10.0.0.0/8'), { bytes: [10, 0, 0, 0], prefix: 8 });
  const overlap = (a: string, b: string) => cidrsOverlap(parseCidr(a) as never, parseCidr(b) as never);
  t.equal(overlap('10.0.0.0/8', '10.9.0.0/16'), true);
  t.equal(overlap('10.0.0.0/8', '11.0.0.0/8'), false);
  t.equal(overlap('0.0.0.0/0', '11.0.0.0/8'), true);
  t.equal(overlap('10.0.0.0/8', 'fd00::/8'), false);
});

t.test('addresses that nothing may be sent to', async (t) => {
  for (const text of [
    '127.0.0.1',
    '::1',
    '::ffff:127.0.0.1',
    '169.254.169.254',
    'fe80::1',
    '224.1.1.1',
    'ff02::1',
    '0.0.0.0',
    '::',
    '240.240.3.4',
    '255.255.255.255',
  ])
    t.ok(forbiddenAddress(text), text);
  for (const text of ['10.0.0.1', '192.168.1.1', 'fd00::1', '2001:db8::1', '240.241.0.1', '0.0.0.0/0', 'name.example'])
    t.equal(forbiddenAddress(text), undefined, text);
  t.ok(forbiddenAddress('fd12:3456::9', ['fd12:3456::/32']), 'the mesh’s own ULA prefix');
  t.same([15001, 15006, 15100, 15199, 15300].map(isMeshPort), [true, true, true, true, true]);
  t.same([80, 8080, 15000, 15099, 15301].map(isMeshPort), [false, false, false, false, false]);
});

t.test('host names', async (t) => {
  for (const host of ['a', 'a.b', 'A.b-c.d1', 'a.b.']) t.equal(dnsNameFault(host, false), undefined, host);
  for (const host of ['', 'a..b', '-a', 'a-', 'a_b', '*', '*.a', 'x'.repeat(64), `${'a.'.repeat(128)}b`, 'a.123'])
    t.ok(dnsNameFault(host, false), host);
  for (const host of ['*', '*.a', '*-x.a', 'a.b']) t.equal(dnsNameFault(host, true), undefined, host);
  for (const host of ['a.*', '**.a', 'a*.b']) t.ok(dnsNameFault(host, true), host);
  t.same(
    [
      hostsMatch('*.com', 'a.com'),
      hostsMatch('a.com', '*.com'),
      hostsMatch('*.com', '*.a.com'),
      hostsMatch('a', 'a'),
      hostsMatch('a', 'b'),
    ],
    [true, true, true, true, false],
  );
  t.same(
    [
      hostWithin('a.com', '*.com'),
      hostWithin('*.a.com', '*.com'),
      hostWithin('*.com', '*.a.com'),
      hostWithin('a.com', 'a.com'),
    ],
    [true, true, false, true],
  );
});

t.test('durations', async (t) => {
  const table: Record<string, number | undefined> = {
    '1s': 1000,
    '1.5s': 1500,
    '1h2m3s': 3_723_000,
    '250ms': 250,
    '100us': 0.1,
    '0': 0,
    '0s': 0,
    '-1s': -1000,
    '.5s': 500,
    '': undefined,
    s: undefined,
    '1': undefined,
    '1d': undefined,
    '1 s': undefined,
    '1s ': undefined,
    '1e3s': undefined,
  };
  for (const [text, ms] of Object.entries(table)) t.equal(parseDuration(text), ms, text);
});

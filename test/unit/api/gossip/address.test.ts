import t from 'tap';
import { canonicalIp, formatEndpoint, isClaimable, parseEndpoint } from '../../../../api/gossip/address.ts';

t.test('one spelling of each address', async (t) => {
  const cases: [string, string | undefined][] = [
    ['10.0.0.1', '10.0.0.1'],
    ['010.0.0.1', undefined],
    ['10.0.0.256', undefined],
    ['FD00:0:0::1', 'fd00::1'],
    ['fd00::1', 'fd00::1'],
    ['fe80::1%eth0', undefined],
    ['::ffff:10.0.0.1', '::ffff:a00:1'],
    ['1', undefined],
    ['', undefined],
    ['example.org', undefined],
    [':::', undefined],
  ];
  for (const [text, want] of cases) t.equal(canonicalIp(text), want, text);
});

t.test('endpoints', async (t) => {
  for (const text of ['10.0.0.1:15300', '[fd00::1]:15300']) t.equal(formatEndpoint(parseEndpoint(text)!), text);
  for (const text of [
    '10.0.0.1',
    '10.0.0.1:0',
    '10.0.0.1:70000',
    '10.0.0.1:015',
    'fd00::1:1',
    '[FD00::1]:1',
    '[10.0.0.1]:1',
    'x:1',
    '',
  ]) {
    t.equal(parseEndpoint(text), undefined, text);
  }
});

t.test('addresses that no host may claim', async (t) => {
  for (const ok of ['10.1.2.3', '192.168.0.1', '8.8.8.8', 'fd00::1', '2001:db8::1']) t.ok(isClaimable(ok), ok);
  for (const bad of [
    '127.0.0.1',
    '0.0.0.0',
    '169.254.169.254',
    '224.0.0.1',
    '255.255.255.255',
    '240.240.0.1',
    '::1',
    '::',
    'fe80::1',
    'ff02::1',
    '::ffff:127.0.0.1',
    'x',
  ]) {
    t.notOk(isClaimable(bad), bad);
  }
});

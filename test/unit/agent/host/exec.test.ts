import t from 'tap';
import { createExec } from '../../../../agent/host/exec.ts';
import { globalAddresses, hasIpv6, isGlobalUnicast } from '../../../../agent/host/interfaces.ts';
import { createUsers, parsePasswd } from '../../../../agent/host/users.ts';

t.test('exec: literal arguments, stdin, status, bounds', async (t) => {
  const exec = createExec();
  t.match(await exec('cat', [], { input: 'in' }), { code: 0, stdout: 'in', stderr: '' });
  t.match(await exec('printf', ['%s', '$(id); *']), { stdout: '$(id); *' }, 'no shell');
  t.match(await exec('false', []), { code: 1 });
  t.match(await exec('env', []), { stdout: /^PATH=[^\n]*\nLC_ALL=C\n$/ }, 'nothing of our environment');
  t.match(await exec('sh', ['-c', 'kill -TERM $$']), { code: 143 });
  t.match(await exec('true', [], { input: 'x'.repeat(1 << 20) }), { code: 0 }, 'a child that does not read its stdin');
  await t.rejects(exec('no-such-program', []), { code: 'EXEC_MISSING' });
  await t.rejects(exec('sleep', ['60'], { timeoutMs: 30 }), { code: 'EXEC_TIMEOUT' });
  await t.rejects(exec('yes', [], { maxBytes: 1000 }), { code: 'EXEC_OUTPUT' });
});

t.test('global addresses: what peers may be told', async (t) => {
  const entry = (address: string, internal = false) =>
    ({ address, internal, family: address.includes(':') ? 'IPv6' : 'IPv4' }) as never;
  t.strictSame(
    globalAddresses({
      lo: [entry('127.0.0.1', true), entry('::1', true), entry('::6', true)],
      eth0: [entry('fe80::1'), entry('fd09::1'), entry('10.9.0.1'), entry('10.9.0.1')],
      eth1: [entry('192.0.2.7'), entry('169.254.3.4'), entry('2001:db8::1')],
    }),
    ['10.9.0.1', '192.0.2.7', 'fd09::1', '2001:db8::1'],
  );
  t.equal(hasIpv6({ lo: [entry('127.0.0.1', true), entry('::1', true)] }), true);
  t.equal(hasIpv6({ lo: [entry('127.0.0.1', true)], eth0: [entry('10.0.0.1')] }), false);
  for (const address of [
    '0.0.0.0',
    '127.9.9.9',
    '224.0.0.1',
    '240.240.0.1',
    '255.255.255.255',
    '::',
    '::6',
    'ff02::1',
    'febf::1',
  ])
    t.equal(isGlobalUnicast(address), false, address);
});

t.test('users: passwd first, then NSS; a number is a uid', async (t) => {
  const path = `${t.testdir({ passwd: 'root:x:0:0::/:/bin/sh\nweb:x:33:33::/:/bin/sh\nweb:x:34:34::/:\nbroken:x\n' })}/passwd`;
  const asked: string[][] = [];
  const users = createUsers({
    passwdPath: path,
    exec: async (file, args) => {
      asked.push([file, ...args]);
      return args[1] === 'ldap.user'
        ? { code: 0, stdout: 'ldap.user:*:70001:1::/:\n', stderr: '' }
        : { code: 2, stdout: '', stderr: '' };
    },
  });
  t.equal(await users.uid('web'), 33);
  t.equal(await users.uid('1234'), 1234);
  t.strictSame(asked, []);
  t.equal(await users.uid('ldap.user'), 70001);
  for (const name of ['nobody-here', '-x', 'a b', '', '4294967295'])
    await t.rejects(users.uid(name), { code: 'USER_UNKNOWN' }, name);
  t.strictSame(asked, [
    ['getent', 'passwd', 'ldap.user'],
    ['getent', 'passwd', 'nobody-here'],
  ]);
  t.strictSame([...parsePasswd('a:x:1:1\n:x:2:2\nb:x:y:2')], [['a', 1]]);
});

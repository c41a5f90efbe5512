import t from 'tap';
import { hostsMatch, hostWithin } from '../../../../api/resources/formats.ts';
import { HostSet } from '../../../../api/resources/host-set.ts';

const HOSTS = ['a.com', 'b.a.com', 'xa.com', 'com', '*', '*.a.com', '*.com', '*a.com', '*-x.b.a.com', 'q.org', '*.org'];

t.test('a set says what its members say one by one', async (t) => {
  for (let bits = 0; bits < 1 << HOSTS.length; bits += 1) {
    const members = HOSTS.filter((_, i) => bits & (1 << i));
    const set = new HostSet(members);
    for (const host of HOSTS) {
      const [matches, within] = [set.matches(host), set.hasWithin(host)];
      const expected = [members.some((one) => hostsMatch(one, host)), members.some((one) => hostWithin(one, host))];
      if (matches !== expected[0] || within !== expected[1]) t.same([matches, within], expected, `${members} ${host}`);
    }
  }
  t.equal(new HostSet(['a', 'a', '*.a']).size, 2);
});

t.test('a look costs no more for more members', async (t) => {
  const set = new HostSet(Array.from({ length: 1000 }, (_, i) => `h${i}.example.com`));
  t.equal(set.cost, new HostSet(['a.example.com']).cost);
  t.ok(set.matches('*.example.com') && set.matches('h999.example.com') && !set.matches('h1000.example.com'));
});

import packet from 'dns-packet';
import fc from 'fast-check';
import t from 'tap';
import {
  encodeAnswer,
  encodeError,
  isResponseTo,
  parseQuery,
  type Query,
  RCODE,
  withId,
} from '../../../../agent/dns/message.ts';
import { createNames, decide, isBelow } from '../../../../agent/dns/resolve.ts';
import { findResolvers, parseResolvConf, withUplinks } from '../../../../agent/dns/upstreams.ts';

const reviews = { v4: ['240.240.0.1'], v6: ['fd6d::1'] };
const names = createNames((namespace) => {
  const table = new Map([
    ['reviews.default.svc.cluster.local', reviews],
    ['reviews.prod.svc.cluster.local', { v4: ['240.240.0.2'], v6: ['fd6d::2'] }],
    ['api.example.com', { v4: ['240.240.0.3'], v6: [] }],
    ['*.wild.example', { v4: ['240.240.0.4'], v6: ['fd6d::4'] }],
    ['*.deep.wild.example', { v4: ['240.240.0.5'], v6: [] }],
    ['novip.example.com', { v4: [], v6: [] }],
  ]);
  if (namespace === 'prod') table.delete('api.example.com');
  return table;
});

function query(name: string, type: packet.RecordType = 'A', more: object = {}): Query {
  const raw = packet.encode({
    type: 'query',
    id: 7,
    flags: packet.RECURSION_DESIRED,
    questions: [{ type, name, class: 'IN' }],
    ...more,
  });
  const parsed = parseQuery(raw);
  if (parsed === 'drop' || 'error' in parsed) throw new Error(JSON.stringify(parsed));
  return parsed.query;
}

t.test('whose name is it, and what are its addresses', async (t) => {
  const outcome = (name: string, namespace: string, type: packet.RecordType = 'A') => {
    const decision = decide(query(name, type), namespace, names, ['corp.example']);
    if (decision.kind === 'forward') return 'forward';
    return decision.answer.rcode === RCODE.nxDomain ? 'nxdomain' : decision.answer.addresses.join(' ');
  };
  for (const [name, namespace, wanted] of [
    ['reviews', 'default', '240.240.0.1'],
    ['reviews', 'prod', '240.240.0.2'],
    ['REVIEWS', 'prod', '240.240.0.2'],
    ['reviews', 'other', 'forward'],
    ['reviews.prod', 'default', '240.240.0.2'],
    ['reviews.prod.svc', 'default', '240.240.0.2'],
    ['reviews.prod.svc.cluster.local', 'other', '240.240.0.2'],
    ['ReViews.Prod.SVC.cluster.LOCAL', 'other', '240.240.0.2'],
    ['nothing.prod.svc.cluster.local', 'default', 'nxdomain'],
    ['svc.cluster.local', 'default', 'nxdomain'],
    ['x.reviews.prod.svc.cluster.local', 'default', 'nxdomain'],
    ['nothing.prod', 'default', 'forward'],
    ['nothing', 'default', 'forward'],
    ['notsvc.cluster.local', 'default', 'forward'],
    ['api.example.com', 'default', '240.240.0.3'],
    ['api.example.com', 'prod', 'forward'],
    ['a.wild.example', 'default', '240.240.0.4'],
    ['a.b.wild.example', 'default', '240.240.0.4'],
    ['a.deep.wild.example', 'default', '240.240.0.5'],
    ['wild.example', 'default', 'forward'],
    ['xwild.example', 'default', 'forward'],
    ['novip.example.com', 'default', 'forward'],
    ['example.com', 'default', 'forward'],
    ['reviews.default.svc.cluster.local.corp.example', 'default', 'nxdomain'],
    ['reviews.corp.example', 'default', 'forward'],
    ['.', 'default', 'forward'],
  ] as const)
    t.equal(outcome(name, namespace), wanted, `${name} in ${namespace}`);
  t.equal(outcome('reviews', 'default', 'AAAA'), 'fd6d::1');
  t.equal(outcome('api.example.com', 'default', 'AAAA'), '', 'no IPv6: empty, not missing');
  for (const type of ['MX', 'TXT', 'SRV', 'CNAME', 'SOA'] as const)
    t.equal(outcome('reviews', 'default', type), '', type);
  const any = decide({ ...query('reviews'), type: 255 }, 'default', names, []);
  t.match(any, { answer: { addresses: ['240.240.0.1', 'fd6d::1'] } });
  t.equal(decide({ ...query('reviews'), class: 3 }, 'default', names, []).kind, 'forward', 'class CH');
  t.equal(decide({ ...query('x.wild.example'), name: 'x\\046.wild.example' }, 'default', names, []).kind, 'forward');
});

t.test('an answer on the wire', async (t) => {
  const q = query('ReViews.default.svc.cluster.local');
  const bytes = encodeAnswer(
    q,
    { rcode: RCODE.noError, addresses: ['240.240.0.1', 'fd6d::1'], ttl: 10, zone: 'svc.cluster.local' },
    512,
  );
  const decoded = packet.decode(bytes);
  t.match(decoded, {
    id: 7,
    type: 'response',
    rcode: 'NOERROR',
    flag_aa: true,
    flag_rd: true,
    flag_ra: true,
    flag_tc: false,
    questions: [{ name: 'ReViews.default.svc.cluster.local', type: 'A' }],
    answers: [
      { type: 'A', ttl: 10, data: '240.240.0.1' },
      { type: 'AAAA', data: 'fd6d::1' },
    ],
    additionals: [],
  });
  t.equal(decoded.answers?.[0]?.name.toLowerCase(), 'reviews.default.svc.cluster.local');
  const missing = packet.decode(
    encodeAnswer(q, { rcode: RCODE.nxDomain, addresses: [], ttl: 10, zone: 'svc.cluster.local' }, 512),
  );
  t.match(missing, {
    rcode: 'NXDOMAIN',
    answers: [],
    authorities: [{ type: 'SOA', name: 'svc.cluster.local', data: { minimum: 10 } }],
  });
  t.match(packet.decode(encodeError(9, RCODE.formErr)), { id: 9, type: 'response', rcode: 'FORMERR' });
});

t.test('size: EDNS is honoured, what does not fit is cut with TC', async (t) => {
  const addresses = Array.from({ length: 40 }, (_, i) => `fd6d::${i + 1}`);
  const answer = { rcode: RCODE.noError, addresses, ttl: 10, zone: 'svc.cluster.local' } as const;
  const plain = query('reviews', 'AAAA');
  t.equal(plain.udpLimit, 512);
  const cut = packet.decode(encodeAnswer(plain, answer, plain.udpLimit));
  t.match(cut, { flag_tc: true, answers: [], questions: [{ name: 'reviews' }] });
  const opt = (size: number) => ({
    additionals: [
      { type: 'OPT', name: '.', udpPayloadSize: size, extendedRcode: 0, ednsVersion: 0, flags: 0, options: [] },
    ],
  });
  const large = query('reviews', 'AAAA', opt(4096));
  t.equal(large.udpLimit, 4096);
  const full = packet.decode(encodeAnswer(large, answer, large.udpLimit));
  t.match(full, { flag_tc: false, additionals: [{ type: 'OPT', udpPayloadSize: 1232 }] });
  t.equal(full.answers?.length, 40);
  t.equal(query('x', 'A', opt(100)).udpLimit, 512);
  t.equal(query('x', 'A', opt(65_000)).udpLimit, 4096);
});

t.test('what is no query is dropped or refused', async (t) => {
  const good = query('reviews').raw;
  const changed = (change: (raw: Buffer) => void) => {
    const raw = Buffer.from(good);
    change(raw);
    return parseQuery(raw);
  };
  t.equal(parseQuery(Buffer.alloc(0)), 'drop');
  t.equal(parseQuery(good.subarray(0, 11)), 'drop');
  t.equal(
    changed((raw) => raw.writeUInt8(0x80, 2)),
    'drop',
    'a response',
  );
  t.strictSame(
    changed((raw) => raw.writeUInt8(0x28, 2)),
    { error: RCODE.notImp, id: 7 },
    'an update',
  );
  t.strictSame(
    changed((raw) => raw.writeUInt16BE(2, 4)),
    { error: RCODE.formErr, id: 7 },
    'two questions',
  );
  t.strictSame(parseQuery(good.subarray(0, good.length - 1)), { error: RCODE.formErr, id: 7 });
  t.strictSame(
    changed((raw) => raw.writeUInt8(0xc0, 12)),
    { error: RCODE.formErr, id: 7 },
    'a compressed question',
  );
  t.strictSame(
    changed((raw) => raw.writeUInt16BE(9, 10)),
    { error: RCODE.formErr, id: 7 },
    'additionals that are not there',
  );
});

t.test('responses must match: id, question, the response flag', async (t) => {
  const q = query('example.com');
  const response = (more: object = {}) =>
    packet.encode({
      type: 'response',
      id: 1,
      questions: [{ type: 'A', name: 'example.com', class: 'IN' }],
      answers: [],
      ...more,
    });
  t.equal(isResponseTo(response(), 1, q), true);
  t.equal(isResponseTo(response(), 2, q), false);
  t.equal(isResponseTo(response({ questions: [{ type: 'A', name: 'EXAMPLE.com' }] }), 1, q), true);
  t.equal(isResponseTo(response({ questions: [{ type: 'AAAA', name: 'example.com' }] }), 1, q), false);
  t.equal(isResponseTo(response({ questions: [{ type: 'A', name: 'evil.com' }] }), 1, q), false);
  t.equal(isResponseTo(response({ type: 'query' }), 1, q), false);
  t.equal(isResponseTo(response({ questions: [], flags: 2 }), 1, q), true, 'an error without its question');
  t.equal(isResponseTo(response({ questions: [] }), 1, q), false);
  t.equal(withId(q.raw, 513).readUInt16BE(0), 513);
});

t.test('fuzz: random and mutated packets never throw, and are never answered when they are responses', async (t) => {
  const seed = query('a.b.reviews.default.svc.cluster.local', 'AAAA', {
    additionals: [
      { type: 'OPT', name: '.', udpPayloadSize: 1400, extendedRcode: 0, ednsVersion: 0, flags: 0, options: [] },
    ],
  }).raw;
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.array(fc.tuple(fc.nat(seed.length - 1), fc.nat(255)), { maxLength: 8 }).map((edits) => {
      const copy = Uint8Array.from(seed);
      for (const [at, value] of edits) copy[at] = value;
      return copy;
    }),
  );
  fc.assert(
    fc.property(bytes, (data) => {
      const raw = Buffer.from(data);
      const parsed = parseQuery(raw);
      if (parsed === 'drop') return true;
      if (raw.readUInt8(2) >= 0x80) return false;
      if ('error' in parsed) return encodeError(parsed.id, parsed.error).length === 12;
      const decision = decide(parsed.query, 'default', names, ['x']);
      const answer = decision.kind === 'answer' ? decision.answer : { rcode: RCODE.servFail, addresses: [], ttl: 0 };
      const out = encodeAnswer(parsed.query, answer, parsed.query.udpLimit);
      return (
        out.length <= parsed.query.udpLimit &&
        out.readUInt16BE(0) === parsed.query.id &&
        isResponseTo(out, parsed.query.id, parsed.query)
      );
    }),
    { seed: 11, numRuns: 3000 },
  );
  t.pass();
});

t.test('resolv.conf', async (t) => {
  t.strictSame(
    parseResolvConf(
      '# c\nnameserver 10.0.0.1\nnameserver bad\n nameserver fe80::1%eth0 ; note\nnameserver 10.0.0.1\nnameserver 1.1.1.1\nnameserver 9.9.9.9\ndomain old\nsearch Corp.Example. b\noptions ndots:5\n',
    ),
    { servers: ['10.0.0.1', 'fe80::1%eth0', '1.1.1.1'], search: ['corp.example', 'b'] },
  );
  t.strictSame(parseResolvConf(''), { servers: [], search: [] });
});

t.test('resolvers: configured, else found now, else found once', async (t) => {
  const dir = t.testdir({ 'resolv.conf': 'nameserver 10.0.0.1\nsearch x\n', empty: '', broken: '{' });
  const find = (resolvConf: string, configured: string[] = [], persist = 'saved') =>
    findResolvers({ configured, resolvConf: `${dir}/${resolvConf}`, persistPath: `${dir}/${persist}` });
  t.strictSame(await find('empty'), { servers: [], search: [] });
  t.strictSame(await find('resolv.conf'), { servers: ['10.0.0.1'], search: ['x'] });
  t.strictSame(await find('empty'), { servers: ['10.0.0.1'], search: [] }, 'resolv.conf was emptied: the earlier ones');
  t.strictSame(await find('missing', [], 'broken'), { servers: [], search: [] });
  t.strictSame(await find('resolv.conf', ['9.9.9.9']), { servers: ['9.9.9.9'], search: ['x'] });
});

t.test('where the resolver is systemd-resolved, the servers that it asks itself are known too', async (t) => {
  const stub = { servers: ['127.0.0.53'], search: [] };
  t.strictSame(withUplinks(stub, 'nameserver 10.0.0.1\nnameserver 127.0.0.53\n'), { ...stub, uplinks: ['10.0.0.1'] });
  t.strictSame(withUplinks(stub, ''), { ...stub, uplinks: [] }, 'none is none: not the stub again');
  const plain = { servers: ['10.0.0.1'], search: [] };
  t.strictSame(withUplinks(plain, 'nameserver 10.0.0.2\n'), plain);
  const dir = t.testdir({ 'resolv.conf': 'nameserver 127.0.0.53\n', uplinks: 'nameserver 10.0.0.1\n' });
  const found = await findResolvers({
    configured: [],
    resolvConf: `${dir}/resolv.conf`,
    persistPath: `${dir}/saved`,
    uplinkConf: `${dir}/uplinks`,
  });
  t.strictSame(found, { ...stub, uplinks: ['10.0.0.1'] });
});

t.test('a name is below a domain by whole labels', async (t) => {
  const domains = new Set(['svc.cluster.local', 'api.example.com', 'default']);
  for (const name of [
    'svc.cluster.local',
    'a.b.svc.cluster.local',
    'api.example.com',
    'www.api.example.com',
    'x.default',
  ])
    t.ok(isBelow(name, domains), name);
  for (const name of ['', 'example.com', 'myapi.example.com', 'default.x', 'cluster.local'])
    t.notOk(isBelow(name, domains), name);
});

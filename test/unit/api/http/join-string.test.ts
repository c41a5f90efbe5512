import t from 'tap';
import { formatJoinString, parseJoinString } from '../../../../api/http/join-string.ts';

const GOOD = {
  controllers: ['https://10.0.0.2:15201'],
  rootSha256: 'a'.repeat(64),
  token: '0123456789abcdef',
  secret: 'S'.repeat(32),
  host: 'b',
  workloadGroups: ['default/reviews'],
  peers: ['10.0.0.3:15300'],
};

t.test('what is written is read, white space around it dropped', async (t) => {
  t.same(parseJoinString(`  ${formatJoinString(GOOD)}\n`), GOOD);
});

t.test('anything else is refused and not repeated in the message', async (t) => {
  const broken: Record<string, string> = {
    empty: '',
    cut: formatJoinString(GOOD).slice(0, -9),
    'another prefix': `k8s.${formatJoinString(GOOD)}`,
    long: `mesh1.${'A'.repeat(9000)}`,
    plaintext: formatJoinString({ ...GOOD, controllers: ['http://10.0.0.2'] }),
    'no controller': formatJoinString({ ...GOOD, controllers: [] }),
    root: formatJoinString({ ...GOOD, rootSha256: 'abc' }),
    host: formatJoinString({ ...GOOD, host: '../x' }),
    null: `mesh1.${Buffer.from('null').toString('base64url')}`,
  };
  for (const [name, text] of Object.entries(broken)) {
    try {
      parseJoinString(text);
      t.fail(name);
    } catch (error) {
      t.match(error, { code: 'JOIN_STRING_INVALID' }, name);
      t.notOk(String(error).includes(GOOD.secret), name);
    }
  }
});

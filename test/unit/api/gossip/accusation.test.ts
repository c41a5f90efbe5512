import t from 'tap';
import { decodeAccusation, encodeAccusation } from '../../../../api/gossip/accusation.ts';

t.test('accusations', async (t) => {
  const accusation = { accuser: 'h1', target: 'h2', epoch: 1, counter: 5 };
  t.same(decodeAccusation(encodeAccusation(accusation)), accusation);
  const junk = [
    '',
    '{}',
    '[]',
    '["h1","h2",1]',
    '["H1","h2",1,1]',
    '["h1","h2",-1,1]',
    '["h1","h2",1,"1"]',
    `["h1","h2",1,${'1'.repeat(600)}]`,
  ];
  for (const text of junk)
    t.throws(() => decodeAccusation(Buffer.from(text)), { code: 'ACCUSATION_INVALID' }, text.slice(0, 30));
});

import t from 'tap';
import { plain } from '../../../cli/output/table.ts';

t.test('what is printed is read as it stands', async (t) => {
  for (const [text, printed] of [
    ['a\u001b[2J\nb', 'a [2J b'],
    ['a\u202eb\u202c \u2066c\u2069', 'a\\u{202e}b\\u{202c} \\u{2066}c\\u{2069}'],
    ['zero\u200bwidth', 'zero\\u{200b}width'],
    ['tag\u{e0041}', 'tag\\u{e0041}'],
    ['two\u2028lines', 'two\\u{2028}lines'],
    ['half\ud800', 'half\\u{d800}'],
    ['é 日本 🚀', 'é 日本 🚀'],
  ] as const)
    t.equal(plain(text), printed);
});

import t from 'tap';
import { parse } from 'yaml';
import { renderData } from '../../../cli/output/json.ts';

t.test('what a terminal would obey is escaped, and reads back as it was', async (t) => {
  const value = { 'k\u009b': ['\u009b31mred', '\u001b[2J', 'a\u202eb', 'plain', '\u007f', 3, null, 'é ü'] };
  for (const format of ['json', 'yaml'] as const) {
    const text = renderData(value, format);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    t.notMatch(text, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]/, format);
    t.same(format === 'json' ? JSON.parse(text) : parse(text), value, `${format}: the same value`);
  }
  t.equal(renderData({ a: 'x' }, 'yaml'), 'a: x\n');
});

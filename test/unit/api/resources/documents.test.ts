import fc from 'fast-check';
import t from 'tap';
import { DOCUMENT_LIMITS, parseDocuments } from '../../../../api/resources/documents.ts';

const TEXT = `# a comment
apiVersion: v1
kind: X
spec:
  http:
  - route:
    - destination: {host: a}
      weight: 3
  labels:
    a.b/c: d
---
---
kind: List
items:
- kind: Y
  spec: {q: 1}
- kind: Z
`;

t.test('objects with positions, Lists flattened, empty documents skipped', async (t) => {
  const { objects, errors } = parseDocuments(TEXT);
  t.same(errors, []);
  t.same(
    objects.map((one) => (one.value as { kind: string }).kind),
    ['X', 'Y', 'Z'],
  );
  const [x, y, z] = objects;
  t.same(x?.locate('spec.http[0].route[0].weight'), { line: 8, col: 7 });
  t.same(x?.locate('spec.http[0].route[0].destination.host'), { line: 7, col: 21 });
  t.same(x?.locate('spec.labels[a.b/c]'), { line: 10, col: 5 });
  t.same(x?.locate('spec.http[0].retries.attempts'), { line: 6, col: 5 }, 'the deepest part that is there');
  t.same(x?.locate(''), { line: 2, col: 1 });
  t.same(y?.locate('spec.q'), { line: 16, col: 10 });
  t.same(z?.locate('kind'), { line: 17, col: 3 });
});

t.test('JSON is taken too, merge keys and anchors as well', async (t) => {
  t.same(parseDocuments('{"kind": "A", "n": 80}').objects[0]?.value, { kind: 'A', n: 80 });
  const { objects } = parseDocuments('kind: A\nbase: &b {x: 1}\nmore: {<<: *b, y: 2}\n');
  t.same(objects[0]?.value, { kind: 'A', base: { x: 1 }, more: { x: 1, y: 2 } });
  t.same(parseDocuments('portLevelMtls: {8080: {mode: STRICT}}').objects[0]?.value, {
    portLevelMtls: { 8080: { mode: 'STRICT' } },
  });
});

t.test('hostile and broken texts are errors with a place', async (t) => {
  const letters = 'bcdefghi'.split('');
  const bomb = `a: &a [${Array(9).fill('x').join()}]\n${letters.map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefghi'[i]}`).join()}]`).join('\n')}`;
  const table: Record<string, [string, RegExp]> = {
    'alias bomb': [bomb, /alias/i],
    'flow nesting': [`${'['.repeat(900)}${']'.repeat(900)}`, /nested/],
    'deep flow nesting': ['['.repeat(100_000), /nested/],
    'list nesting': [`${'- '.repeat(3000)}x`, /nested/],
    'map nesting': [Array.from({ length: 2500 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'), /nested/],
    'duplicate keys': ['a: 1\na: 2', /unique/],
    'open bracket': ['a: [1', /./],
    'foreign tag': ['a: !!js/function "x"', /tag/i],
    tab: ['a:\n\tb: 1', /Tabs/],
    'too many objects': ['a: 1\n---\n'.repeat(11), /more than 10/],
    'unknown alias': ['a: *b', /alias/i],
  };
  for (const [name, [text, message]] of Object.entries(table)) {
    const { objects, errors } = parseDocuments(text, { ...DOCUMENT_LIMITS, maxDocs: 10 });
    t.same(objects, [], name);
    t.match(errors[0]?.message, message, name);
    t.ok((errors[0]?.position.line ?? 0) >= 1, name);
  }
  t.match(parseDocuments('a: 1', { ...DOCUMENT_LIMITS, maxBytes: 3 }).errors, [{ message: /larger than 3 bytes/ }]);
});

t.test('random text never throws', async (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
      const { objects, errors } = parseDocuments(text);
      for (const one of objects) one.locate('spec.a[0].b');
      return objects.length === 0 || errors.length === 0;
    }),
    { numRuns: 500, seed: 11 },
  );
  t.pass('500 texts');
});

import tap from 'tap';
import { type Member, overlayDot, overlayText } from '../../../cli/output/overlay.ts';

const members: Member[] = [
  { host: 'a', links: ['b', 'c'] },
  { host: 'b', links: ['a'] },
  { host: 'c', links: [] },
  { host: 'd', links: undefined },
];

tap.test('the overlay as text', async (t) => {
  t.equal(
    overlayText(members),
    [
      'a      2 ## b c?',
      'b      1 # a',
      'c      1 # a?',
      'd      0    (has not said)',
      '',
      '?: one side names the link, the other does not (yet, or any more)',
      '4 hosts, 2 links; degree 1 to 2, 1.3 in the mean; in 2 pieces, the largest of 3 hosts',
    ].join('\n'),
  );
  const ring = Array.from({ length: 8 }, (_, i) => ({ host: `h${i}`, links: [`h${(i + 1) % 8}`, `h${(i + 7) % 8}`] }));
  t.match(overlayText(ring), /8 hosts, 8 links; degree 2 to 2, 2.0 in the mean; in one piece, at most 4 hops$/);
  t.match(overlayText([]), /0 hosts, 0 links; degree 0 to 0/);
});

tap.test('the overlay for Graphviz: what only one side names is dashed, names are quoted', async (t) => {
  const dot = overlayDot([...members, { host: 'e"; x', links: ['\u001b[2J'] }]);
  t.match(dot, /^graph overlay \{/);
  t.match(dot, '\n  "a" -- "b";\n');
  t.match(dot, '\n  "a" -- "c" [style=dashed];\n');
  t.match(dot, '\n  "d" [style=dashed];\n');
  t.match(dot, '\n  "e\\"; x";\n');
  t.notOk(dot.includes('\u001b'));
});

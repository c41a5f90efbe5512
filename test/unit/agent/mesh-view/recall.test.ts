// What is recalled, and what is forgotten.
import { test } from 'tap';
import { createRecall, RECALL_NOTHING } from '../../../../agent/mesh-view/recall.ts';

/** Makes another object each time, and counts. */
function maker() {
  const made = { times: 0, next: () => ({ number: ++made.times }) };
  return made;
}

test('a part is made anew when an input is another, and only then', async (t) => {
  const recall = createRecall();
  const made = maker();
  const of = {};
  const input = {};
  const ask = (...inputs: unknown[]) => {
    const value = recall.part('x', of, inputs, made.next);
    recall.endOfView();
    return value;
  };
  const first = ask(input, 'text');
  t.equal(ask(input, ['te', 'xt'].join('')), first, 'texts are the same by what they say');
  t.not(ask({}, 'text'), first, 'objects by being the same');
  t.not(ask(input), first);
  t.equal(made.times, 3);
});

test('what a view did not ask for is forgotten', async (t) => {
  const recall = createRecall();
  const made = maker();
  const first = recall.part('x', 'a', [], made.next);
  t.not(recall.part('x', 'b', [], made.next), first);
  t.not(recall.part('y', 'a', [], made.next), first);
  recall.endOfView();
  t.equal(recall.part('x', 'a', [], made.next), first);
  recall.endOfView();
  recall.endOfView();
  t.not(recall.part('x', 'a', [], made.next), first);
});

test('parts of a whole are kept as long as nobody asks for them', async (t) => {
  const recall = createRecall();
  const made = maker();
  const look = (...inputs: unknown[]) => {
    const whole = recall.whole('all', inputs, (parts) => ({ part: parts.part('x', 'a', [], made.next) }));
    recall.endOfView();
    return whole;
  };
  const first = look(1);
  t.equal(look(1), first);
  t.equal(look(1), first);
  const second = look(2);
  t.not(second, first);
  t.equal(second.part, first.part, 'after views that did not look at it');
  t.equal(made.times, 1);
});

test('without a memory everything is made', async (t) => {
  const made = maker();
  RECALL_NOTHING.part('x', 'a', [], made.next);
  RECALL_NOTHING.whole('x', [], (parts) => parts.part('x', 'a', [], made.next));
  t.equal(made.times, 2);
});

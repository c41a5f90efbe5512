// The wire format as protobufjs writes it, whatever is written.
import { Writer } from 'protobufjs/minimal.js';
import { type Test, test } from 'tap';
import { ByteWriter } from '../../../../agent/xds/byte-writer.ts';
import { seeded } from '../../../fakes/seeded.ts';

function same(t: Test, what: string, own: (writer: ByteWriter) => void, oracle: (writer: Writer) => void): void {
  const writer = new ByteWriter();
  own(writer);
  const other = Writer.create();
  oracle(other);
  t.same(Buffer.from(writer.since(0)).toString('hex'), Buffer.from(other.finish()).toString('hex'), what);
}

test('numbers', async (t) => {
  for (const value of [0, 1, 127, 128, 16383, 16384, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1])
    same(
      t,
      `${value}`,
      (w) => w.varint(value),
      (w) => w.uint32(value),
    );
  for (const value of [2 ** 32, 2 ** 40 + 5, Number.MAX_SAFE_INTEGER])
    same(
      t,
      `${value}`,
      (w) => w.varint(value),
      (w) => w.uint64(value),
    );
  for (const value of [-1, -128, -(2 ** 31)])
    same(
      t,
      `${value}`,
      (w) => w.varint64(BigInt(value)),
      (w) => w.int32(value),
    );
  for (const value of [0, 1, 2 ** 32 - 1])
    same(
      t,
      `fixed32 ${value}`,
      (w) => w.fixed32(value),
      (w) => w.fixed32(value),
    );
  for (const value of [0, -1, 5, 2 ** 40])
    same(
      t,
      `fixed64 ${value}`,
      (w) => w.fixed64(BigInt(value)),
      (w) => w.sfixed64(value),
    );
  for (const value of [0, 1.5, -2.25, Number.POSITIVE_INFINITY, 1e-7]) {
    same(
      t,
      `float ${value}`,
      (w) => w.float(value),
      (w) => w.float(value),
    );
    same(
      t,
      `double ${value}`,
      (w) => w.double(value),
      (w) => w.double(value),
    );
  }
});

test('strings and messages of any length', async (t) => {
  const random = seeded(5);
  const texts = [
    '',
    'a',
    'é',
    '€',
    '🙂',
    'a'.repeat(48),
    'a'.repeat(49),
    'é'.repeat(30),
    'x'.repeat(127),
    'x'.repeat(128),
  ];
  for (const text of texts)
    same(
      t,
      `${text.slice(0, 3)} ${text.length}`,
      (w) => w.string(text),
      (w) => w.string(text),
    );
  for (let round = 0; round < 50; round++) {
    const parts = Array.from({ length: 12 }, () => 'y'.repeat(Math.floor(random() ** 3 * 20_000)));
    same(
      t,
      `nested ${round}`,
      (w) => {
        const begun = parts.map((part) => {
          w.string(part);
          return w.begin();
        });
        for (const at of begun.reverse()) w.end(at);
      },
      (w) => {
        for (const part of parts) w.string(part).fork();
        for (const _ of parts) w.ldelim();
      },
    );
  }
});

test('used again, it holds nothing of what was written before', async (t) => {
  const writer = new ByteWriter();
  writer.string('kept');
  const { place } = writer;
  writer.string('taken back');
  writer.back(place);
  t.same(Buffer.from(writer.since(0)).toString('latin1'), '\u0004kept');
  writer.clear();
  t.same(writer.since(0).length, 0);
  writer.begin();
  t.same(Buffer.from(writer.since(0)).toString('latin1'), '\u0000', 'the room of a length holds no old byte');
});

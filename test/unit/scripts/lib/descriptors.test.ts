import { Writer } from 'protobufjs/minimal.js';
import { test } from 'tap';
import { configClosure, findDescriptors, toDescriptorSet } from '../../../../scripts/lib/descriptors.ts';

/** A serialized FileDescriptorProto with one empty message. */
function file(name: string, dependencies: string[] = []): Buffer {
  const writer = Writer.create().uint32(0x0a).string(name).uint32(0x12).string('p');
  for (const dependency of dependencies) writer.uint32(0x1a).string(dependency);
  return Buffer.from(
    writer
      .uint32(0x22)
      .bytes(new Uint8Array([0x0a, 1, 0x4d]))
      .uint32(0x62)
      .string('proto3')
      .finish(),
  );
}

test('descriptors are found among other bytes, each once, whole', async (t) => {
  const a = file('envoy/a.proto', ['xds/b.proto']);
  const b = file('xds/b.proto');
  const noise = Buffer.from('\0see envoy/other.proto for details\0\x0a\x07z.proto');
  const found = findDescriptors(Buffer.concat([noise, b, Buffer.alloc(3), noise, a, b, Buffer.from('tail')]));
  t.strictSame(
    found.map((f) => f.name),
    ['envoy/a.proto', 'xds/b.proto'],
  );
  t.same(Buffer.from(found[0]!.bytes), a);
  t.same(Buffer.from(found[1]!.bytes), b);
  t.strictSame(found[0]!.dependencies, ['xds/b.proto']);
});

test('the set has what configuration needs, dependencies first, and nothing else', async (t) => {
  const found = findDescriptors(
    Buffer.concat([
      file('envoy/a.proto', ['dep/c.proto']),
      file('dep/c.proto'),
      file('other/d.proto'),
      file('envoy/admin/e.proto'),
    ]),
  );
  const kept = configClosure(found);
  t.strictSame(
    kept.map((f) => f.name),
    ['dep/c.proto', 'envoy/a.proto'],
  );
  t.equal(
    toDescriptorSet(kept).length,
    kept.reduce((sum, f) => sum + f.bytes.length + 2, 0),
  );
});

test('a missing dependency is an error that names both files', async (t) => {
  const found = findDescriptors(file('envoy/a.proto', ['gone/c.proto']));
  t.throws(() => configClosure(found), { code: 'DESCRIPTORS_INCOMPLETE', message: /gone\/c\.proto.*envoy\/a\.proto/ });
});

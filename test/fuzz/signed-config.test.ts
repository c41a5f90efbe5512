/** The decoders of signed config under random and mutated input: a MeshError or a value, never another error, a hang or a changed state. */
import fc from 'fast-check';
import t from 'tap';
import { MeshError } from '../../api/errors.ts';
import { parseHead } from '../../api/signed-config/layout.ts';
import { parseRoot, parseTimestamp } from '../../api/signed-config/metadata.ts';
import { toDesiredConfig } from '../../api/signed-config/to-desired-config.ts';
import { parseUpdate } from '../../api/signed-config/update.ts';
import { acceptRoots, acceptUpdate, trustAnchor } from '../../api/signed-config/verifier.ts';
import { createSignedMesh, optionsAt, service } from '../builders/signed-mesh.ts';

function onlyMeshErrors(run: () => unknown): boolean {
  try {
    run();
    return true;
  } catch (error) {
    if (error instanceof MeshError) return true;
    throw error;
  }
}

t.test('random JSON', async (t) => {
  const shape = fc.record(
    {
      format: fc.constantFrom(1, 2),
      roots: fc.oneof(fc.array(fc.string()), fc.jsonValue()),
      timestamp: fc.oneof(fc.json(), fc.jsonValue()),
      heads: fc.oneof(fc.record({ policy: fc.json() }), fc.jsonValue()),
      content: fc.oneof(
        fc.record({
          policy: fc.record({
            kind: fc.constantFrom('full', 'delta'),
            set: fc.dictionary(fc.string(), fc.jsonValue()),
            delete: fc.array(fc.string()),
          }),
        }),
        fc.jsonValue(),
      ),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.oneof(shape, fc.jsonValue()), (value) => onlyMeshErrors(() => parseUpdate(JSON.stringify(value)))),
    { numRuns: 2000, seed: 1 },
  );
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.json()),
      (text) =>
        onlyMeshErrors(() => parseHead(text)) &&
        onlyMeshErrors(() => parseRoot(text)) &&
        onlyMeshErrors(() => parseTimestamp(text)),
    ),
    { numRuns: 1000, seed: 1 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => onlyMeshErrors(() => parseUpdate(bytes))),
    { numRuns: 500, seed: 1 },
  );
  t.pass();
});

t.test('a good update with some characters changed is refused, or says the same', async (t) => {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  await mesh.put(service('web'));
  const text = mesh.signer.history.updateFor({ root: 1, generation: 0, timestamp: 0 }) ?? '';
  const anchor = trustAnchor(mesh.rootText);
  const accept = (data: string) => {
    const update = parseUpdate(data);
    const { accepted } = acceptUpdate(acceptRoots(anchor, update), update, optionsAt(mesh.clock.now()));
    if (accepted === undefined) throw new Error('accepted without content');
    return toDesiredConfig(accepted);
  };
  const good = accept(text);
  let refused = 0;
  const mutation = fc.tuple(
    fc.nat(text.length - 1),
    fc.constantFrom('0', '9', 'a', '"', '{', '}', ',', '\\', '[', 'null', ''),
    fc.nat(3),
  );
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 3 }), (mutations) => {
      let data = text;
      for (const [at, insert, cut] of mutations) data = data.slice(0, at) + insert + data.slice(at + cut);
      try {
        t.strictSame(accept(data), good);
        return true;
      } catch (error) {
        refused++;
        return error instanceof MeshError;
      }
    }),
    { numRuns: 1500, seed: 3 },
  );
  t.ok(refused > 1000, `${refused} of 1500 refused`);
});

import { test } from 'tap';
import { parseUpdate } from '../../../../api/signed-config/update.ts';
import { acceptUpdate, trustAnchor } from '../../../../api/signed-config/verifier.ts';
import { forgeObject } from '../../../../scripts/lib/demo/forge.ts';
import { createSignedMesh, optionsAt, service } from '../../../builders/signed-mesh.ts';

test('a forged update is whole but for its signatures, so that they are what refuses it', async (t) => {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  await mesh.put(service('reviews'));
  const genuine = mesh.signer.history.updateFor({ root: 1, generation: 0, timestamp: 0 }) ?? '';
  const key = 'object/Service/default/reviews';
  const forged = forgeObject(genuine, key, (object) => ({ ...(object as object), spec: { ports: [] } }));

  const options = optionsAt(mesh.clock.now());
  const anchor = trustAnchor(mesh.rootText);
  const state = acceptUpdate(anchor, parseUpdate(genuine), options);
  for (const held of [anchor, state]) {
    t.throws(() => acceptUpdate(held, parseUpdate(forged), options), { code: 'CONFIG_BAD_SIGNATURE' });
  }
  const set = parseUpdate(forged).content?.policy?.set as Record<string, { spec: { ports: unknown[] } }>;
  t.strictSame(set[key]?.spec.ports, []);
  t.equal(
    JSON.parse(parseUpdate(forged).snapshot as string).signed.version,
    (state.accepted?.generation ?? 0) + 1,
    'it claims to be the next generation',
  );
  t.throws(() => forgeObject(genuine, 'object/Service/default/none', (o) => o), /has no/);
  t.throws(() => forgeObject('{"format":1,"roots":[]}', key, (o) => o), /not a full update/);
});

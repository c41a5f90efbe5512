// The whole translation of some meshes, as text: UPDATE_GOLDEN=1 writes it anew. test/integration/translate-validate.test.ts feeds each to Envoy.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import { translate } from '../../../../agent/translate/translate.ts';
import { meshView } from '../mesh-view/build-mesh.ts';
import { GOLDEN_CASES } from './golden-cases.ts';

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), '../../../golden/translate');

/** Access logs are long and alike: a digest stands for each; the plain mesh's file ends with what the digests are. */
function digest(value: unknown, logs: Map<string, unknown>): string {
  const key = createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 12);
  logs.set(key, value);
  return key;
}

for (const [name, mesh] of Object.entries(GOLDEN_CASES)) {
  test(`golden: ${name}`, async (t) => {
    const set = translate(meshView(mesh));
    const logs = new Map<string, unknown>();
    const resources = Object.entries(set.resources).map(([type, map]) => [
      type,
      [...map.values()].map(({ body, origins }) => ({ body, origins })),
    ]);
    const shown = { generation: set.generation, secrets: [...set.secrets], ...Object.fromEntries(resources) };
    const lines = JSON.stringify(shown, (key, value) => (key === 'access_log' ? digest(value, logs) : value), 1);
    const text = `${lines}\n${name === 'plain' ? `${JSON.stringify([...logs], undefined, 1)}\n` : ''}`;
    const file = join(FOLDER, `${name}.txt`);
    if (process.env.UPDATE_GOLDEN === '1') writeFileSync(file, text);
    t.equal(text, readFileSync(file, 'utf8'));
    const shuffled = {
      ...mesh,
      objects: [...mesh.objects].reverse(),
      hosts: [...(mesh.hosts ?? [])].reverse(),
      self: mesh.self ?? 'a',
    };
    const again = translate(meshView(shuffled));
    for (const [type, map] of Object.entries(set.resources)) {
      const other = again.resources[type as keyof typeof set.resources];
      t.equal(
        JSON.stringify([...other]),
        JSON.stringify([...map]),
        `${type}: same mesh, same bytes, whatever the order`,
      );
      t.same([...map.keys()], [...map.keys()].sort(), `${type}: sorted`);
    }
  });
}

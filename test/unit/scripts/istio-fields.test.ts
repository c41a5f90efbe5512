import { readFileSync } from 'node:fs';
import { test } from 'tap';
import { ENFORCED, ENFORCED_VALUES, REFUSED, REFUSED_KINDS } from '../../../api/resources/enforced-fields.ts';
import { THIS_VERSION } from '../../../api/resources/enforcement.ts';
import { KINDS } from '../../../api/resources/registry.ts';
import { fieldSchemas } from '../../../api/resources/schemas.ts';
import type { StructuralSchema } from '../../../api/resources/structural.ts';
import { istioFields } from '../../../scripts/lib/istio-fields.ts';

test('docs/istio-fields.md says what this version does', async (t) => {
  const file = readFileSync(new URL('../../../docs/istio-fields.md', import.meta.url), 'utf8');
  t.equal(file, istioFields(), 'run `npm run docs`');
  t.notMatch(file, /refused: not yet/, 'each refusal has a reason that helps');
});

/** Whether the kind has a field at this path. */
function exists(kind: string, path: string): boolean {
  const info = KINDS.find((one) => one.kind === kind);
  if (info === undefined) return false;
  const [first = '', ...rest] = path.replaceAll('[]', '.[]').split('.');
  let schema: StructuralSchema | undefined = fieldSchemas(info)[first];
  for (const segment of rest.filter((one) => one !== '**')) {
    if (schema?.['x-kubernetes-preserve-unknown-fields'] === true) return true;
    schema =
      segment === '[]' ? schema?.items : segment === '*' ? schema?.additionalProperties : schema?.properties?.[segment];
  }
  return schema !== undefined;
}

test('enforced and refused paths are fields that the kinds have', async (t) => {
  for (const kind of [...Object.keys(ENFORCED), ...Object.keys(REFUSED)]) {
    const paths = [ENFORCED[kind] ?? [], Object.keys(ENFORCED_VALUES[kind] ?? {}), Object.keys(REFUSED[kind] ?? {})];
    const unknown = paths.flatMap((some) => some ?? []).filter((path) => !exists(kind, path));
    t.same(unknown, [], kind);
  }
});

test('every kind that can be pushed is enforced, or harmless, or refused whole with a reason', async (t) => {
  for (const { kind } of KINDS.filter((info) => info.stored)) {
    const places = [THIS_VERSION.fields[kind], REFUSED[kind], REFUSED_KINDS[kind]].filter((one) => one !== undefined);
    t.ok(places.length > 0, kind);
    if (REFUSED_KINDS[kind] !== undefined) t.equal(places.length, 1, `${kind} is either`);
  }
});

test('no path is both enforced and refused', async (t) => {
  for (const [kind, reasons] of Object.entries(REFUSED)) {
    const both = (ENFORCED[kind] ?? []).filter((path) =>
      Object.keys(reasons).some(
        (refused) => path === refused || path.startsWith(`${refused}.`) || path.startsWith(`${refused}[`),
      ),
    );
    t.same(both, [], kind);
  }
});

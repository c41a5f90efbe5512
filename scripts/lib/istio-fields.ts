/**
 * docs/istio-fields.md: which fields of the operators' API are enforced and which are refused, and why. In: the schemas and api/resources/
 * enforced. Out: Markdown on stdout. Pure but for that. Run by `npm run docs`; a unit test compares the file with it.
 */
import { THIS_VERSION } from '../../api/resources/enforcement.ts';
import { KINDS, type KindInfo } from '../../api/resources/registry.ts';
import { fieldSchemas } from '../../api/resources/schemas.ts';
import type { StructuralSchema } from '../../api/resources/structural.ts';

type Verdict = 'enforced' | `only ${string}` | `refused: ${string}`;

interface Row {
  readonly path: string;
  readonly verdict: Verdict | `as ${string}`;
}

/** What the verdicts of one kind are made from. */
interface Rules {
  readonly fields: ReadonlySet<string>;
  readonly subtrees: readonly string[];
  readonly values: Readonly<Record<string, readonly string[]>>;
  readonly refused: Readonly<Record<string, string>>;
}

const NOT_YET = 'not yet';

function rulesOf(kind: string): Rules {
  const fields = THIS_VERSION.fields[kind] ?? [];
  return {
    fields: new Set(fields),
    subtrees: fields.filter((path) => path.endsWith('.**')).map((path) => path.slice(0, -3)),
    values: THIS_VERSION.values[kind] ?? {},
    refused: THIS_VERSION.refused?.[kind] ?? {},
  };
}

/** Rows of one schema node. A subtree without any enforced field is one row. */
function rowsOf(path: string, schema: StructuralSchema, rules: Rules): Row[] {
  const reason = rules.refused[path];
  if (reason !== undefined) return [{ path, verdict: `refused: ${reason}` }];
  if (rules.subtrees.includes(path)) return [{ path, verdict: 'enforced' }];
  const below = children(path, schema).flatMap(([name, child]) => rowsOf(name, child, rules));
  if (below.length === 0) return [{ path, verdict: leafVerdict(path, rules) }];
  const first = below[0] as Row;
  const alike = below.every((row) => row.verdict === first.verdict);
  return alike && first.verdict.startsWith('refused') && !path.endsWith('[]') && !path.endsWith('.*')
    ? [{ path, verdict: first.verdict }]
    : below;
}

function leafVerdict(path: string, rules: Rules): Verdict {
  if (!rules.fields.has(path)) return `refused: ${NOT_YET}`;
  const values = rules.values[path];
  return values === undefined ? 'enforced' : `only ${values.map((value) => `\`${value}\``).join(', ')}`;
}

function children(path: string, schema: StructuralSchema): [string, StructuralSchema][] {
  if (schema.type === 'array') return schema.items === undefined ? [] : [[`${path}[]`, schema.items]];
  if (schema.additionalProperties !== undefined) return [[`${path}.*`, schema.additionalProperties]];
  return Object.entries(schema.properties ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, child]) => [`${path}.${name}`, child]);
}

/** Subtrees that mean the same as another: one row, and what differs. Innermost first. */
const LIKE: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  DestinationRule: [
    ['spec.subsets[].trafficPolicy.portLevelSettings[]', 'spec.trafficPolicy'],
    ['spec.trafficPolicy.portLevelSettings[]', 'spec.trafficPolicy'],
    ['spec.subsets[].trafficPolicy', 'spec.trafficPolicy'],
  ],
};

/** Replaces what stands below `at` and is decided as below `like` by a reference to it. */
function folded(rows: readonly Row[], at: string, like: string): Row[] {
  const known = new Map(rows.map((row) => [row.path, row.verdict]));
  const same = (row: Row) =>
    row.path.startsWith(`${at}.`) && known.get(`${like}${row.path.slice(at.length)}`) === row.verdict;
  const first = rows.findIndex(same);
  if (first < 0) return [...rows];
  const kept = (some: readonly Row[]) => some.filter((row) => !same(row));
  return [...kept(rows.slice(0, first)), { path: `${at}.…`, verdict: `as \`${like}\`` }, ...kept(rows.slice(first))];
}

function section(info: KindInfo): string {
  const refused = THIS_VERSION.refusedKinds?.[info.kind];
  if (refused !== undefined) return [headingOf(info), '', `Refused whole: ${refused}.`, ''].join('\n');
  const rules = rulesOf(info.kind);
  const rows = Object.entries(fieldSchemas(info)).flatMap(([name, schema]) => rowsOf(name, schema, rules));
  const shown = (LIKE[info.kind] ?? []).reduce((all, [at, like]) => folded(all, at, like), rows);
  return [
    headingOf(info),
    '',
    '| field | |',
    '| --- | --- |',
    ...shown.map(({ path, verdict }) => `| \`${path}\` | ${verdict} |`),
    '',
  ].join('\n');
}

function headingOf(info: KindInfo): string {
  return `## ${info.kind} (${info.group === '' ? 'v1' : `${info.group}/${info.versions.join(', ')}`})`;
}

/** The whole document. */
export function istioFields(): string {
  return [
    '# Fields of the API: enforced or refused',
    '',
    'Written by `npm run docs` from `api/resources/enforced/`; do not edit. Every field that a kind has is either turned into behaviour',
    'by the agents or the controller, or an object that sets it is refused at the push, with the path and the reason below.',
    '`a[]` is any item of a list, `a.*` any key of a map.',
    '',
    ...KINDS.filter((info) => info.stored).map(section),
  ].join('\n');
}

if (import.meta.main) process.stdout.write(istioFields());

/**
 * What of one kind is enforced. fields: paths, `a[].b` for lists, `a.*` for every key of a map, `a.**` for a whole subtree. values: where
 * only some values of a field are honoured, those, by the same path; a field that is absent there is free within its schema. refused: why
 * fields of the schema are not enforced, by path; one path covers what lies below it. The operator reads the reason after "not
 * supported: ", and docs/istio-fields.md shows it, e.g. `'spec.endpoints[].network': 'hosts of several networks …'`.
 */
export interface KindEnforcement {
  readonly fields: readonly string[];
  readonly values?: Readonly<Record<string, readonly string[]>>;
  readonly refused?: Readonly<Record<string, string>>;
}

/** Each path under each prefix. */
export const both = (prefixes: readonly string[], paths: readonly string[]): string[] =>
  prefixes.flatMap((prefix) => paths.map((path) => `${prefix}.${path}`));

/** Paths of a spec. */
export const spec = (paths: readonly string[]): readonly string[] => paths.map((path) => `spec.${path}`);

/** The three forms of Istio's StringMatch. */
export const match = (path: string): string[] => [`${path}.exact`, `${path}.prefix`, `${path}.regex`];

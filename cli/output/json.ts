import { stringify } from 'yaml';

/** How results are printed. `json` and `yaml` carry apiVersion and kind, so that a program can tell what it reads. */
export type OutputFormat = 'table' | 'yaml' | 'json';

export const OUTPUT_FORMATS: readonly OutputFormat[] = ['table', 'yaml', 'json'];

/** A versioned document: `{apiVersion: hostmesh.io/v1, kind, ...}`, for results that are no stored object. */
export function versioned(kind: string, fields: object): object {
  return { apiVersion: 'hostmesh.io/v1', kind, ...fields };
}

/** A value as JSON or YAML, ending in a newline. */
export function renderData(value: unknown, format: 'yaml' | 'json'): string {
  return format === 'json' ? `${JSON.stringify(value, null, 2)}\n` : stringify(value, { lineWidth: 0 });
}

import { Document, visit } from 'yaml';

/** How results are printed. `json` and `yaml` carry apiVersion and kind, so that a program can tell what it reads. */
export type OutputFormat = 'table' | 'yaml' | 'json';

export const OUTPUT_FORMATS: readonly OutputFormat[] = ['table', 'yaml', 'json'];

/** A versioned document: `{apiVersion: hostmesh.io/v1, kind, ...}`, for results that are no stored object. */
export function versioned(kind: string, fields: object): object {
  return { apiVersion: 'hostmesh.io/v1', kind, ...fields };
}

/** C1 controls, which terminals obey as they do ESC, and what turns the direction of text; JSON and YAML leave them as they are. */
const ODD = /[\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

/** A value as JSON or YAML, ending in a newline, safe to print: texts of hosts and operators may hold what a terminal obeys. */
export function renderData(value: unknown, format: 'yaml' | 'json'): string {
  const escaped = (text: string) => text.replace(ODD, (odd) => `\\u${odd.charCodeAt(0).toString(16).padStart(4, '0')}`);
  if (format === 'json') return escaped(`${JSON.stringify(value, null, 2)}\n`);
  const document = new Document(value);
  visit(document, {
    Scalar(_key, node) {
      // Only a quoted scalar knows escapes.
      if (typeof node.value === 'string' && node.value.search(ODD) >= 0) node.type = 'QUOTE_DOUBLE';
    },
  });
  return escaped(document.toString({ lineWidth: 0 }));
}

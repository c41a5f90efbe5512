import {
  type Document,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseAllDocuments,
} from 'yaml';
import { OBJECT_LIMITS } from './bounds.ts';

/** A place in a text; both from 1. */
export interface Position {
  readonly line: number;
  readonly col: number;
}

/** One object of a text, a `List` already taken apart. */
export interface SourceObject {
  readonly value: unknown;
  /** Position of a path such as `spec.http[0].route` (report.ts): of its key, or of the deepest part of the path that is there. */
  locate(path: string): Position;
}

export interface DocumentError {
  readonly message: string;
  readonly position: Position;
}

export interface DocumentLimits {
  readonly maxBytes: number;
  /** Objects, items of Lists included. */
  readonly maxDocs: number;
  /** Values that aliases may expand to, as a multiple of the anchors (yaml's maxAliasCount): bounds alias bombs. */
  readonly maxAliases: number;
}

export const DOCUMENT_LIMITS: DocumentLimits = { maxBytes: 8 * 1024 * 1024, maxDocs: 5000, maxAliases: 100 };

type Parsed = Document.Parsed;

/**
 * Reads YAML or JSON text of many documents, from a file or an untrusted body. Either objects or errors, never both. Bytes are bounded
 * before parsing, aliases and depth while values are made. Empty documents are skipped, `kind: List` is flattened.
 */
export function parseDocuments(
  text: string,
  limits: DocumentLimits = DOCUMENT_LIMITS,
): { readonly objects: readonly SourceObject[]; readonly errors: readonly DocumentError[] } {
  const fail = (message: string, position: Position = { line: 1, col: 1 }) => ({
    objects: [],
    errors: [{ message, position }],
  });
  if (Buffer.byteLength(text) > limits.maxBytes) return fail(`the text is larger than ${limits.maxBytes} bytes`);
  const deep = tooDeep(text);
  if (deep !== undefined) return fail(`nested deeper than ${OBJECT_LIMITS.maxDepth} levels`, deep);
  const lines = new LineCounter();
  let documents: readonly Parsed[];
  try {
    const parsed = parseAllDocuments(text, {
      lineCounter: lines,
      merge: true,
      strict: true,
      prettyErrors: false,
      logLevel: 'error',
    });
    documents = Array.isArray(parsed) ? (parsed as Parsed[]) : [];
  } catch {
    return fail('the text is nested too deeply to be read');
  }
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), col: Math.max(col, 1) };
  };
  const errors: DocumentError[] = [];
  const objects: SourceObject[] = [];
  for (const document of documents) {
    for (const problem of [...document.errors, ...document.warnings]) {
      if (errors.length < 20) errors.push({ message: inWords(problem.message), position: at(problem.pos[0]) });
    }
    if (errors.length === 0) collect(document, at, limits, objects, errors);
  }
  return errors.length > 0 ? { objects: [], errors } : { objects, errors };
}

/**
 * Where brackets open deeper than any object may: the parser recurses and would run out of stack. Block nesting needs indentation, so it
 * costs its square in bytes and stays shallow within the size bound. Brackets inside quotes and comments are counted too: such text is
 * only refused when it opens that many without closing them on the same line.
 */
function tooDeep(text: string): Position | undefined {
  let line = 1;
  let lineStart = 0;
  let depth = 0;
  let deepest = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 10) {
      line += 1;
      lineStart = i + 1;
    } else if (code === 91 || code === 123) {
      depth += 1;
      deepest = Math.max(deepest, depth);
      if (depth > 1000) return { line, col: i - lineStart + 1 };
    } else if (code === 93 || code === 125) depth = Math.max(0, depth - 1);
    else if (
      code === 45 &&
      i + 1 - lineStart > 2000 &&
      text
        .slice(lineStart, i + 1)
        .replaceAll('- ', '')
        .trim() === '-'
    ) {
      return { line, col: i - lineStart + 1 }; // `- - - - ...` nests a list a dash
    }
  }
  return undefined;
}

function collect(
  document: Parsed,
  at: (offset: number) => Position,
  limits: DocumentLimits,
  objects: SourceObject[],
  errors: DocumentError[],
): void {
  const start = at(document.contents?.range?.[0] ?? document.range[0]);
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: limits.maxAliases });
  } catch (error) {
    errors.push({ message: error instanceof Error ? error.message : 'cannot be read', position: start });
    return;
  }
  if (value === null || value === undefined) return;
  const list = value as { kind?: unknown; items?: unknown };
  const isList = list.kind === 'List' && Array.isArray(list.items);
  const values = isList ? (list.items as unknown[]) : [value];
  if (objects.length + values.length > limits.maxDocs) {
    errors.push({ message: `more than ${limits.maxDocs} objects`, position: start });
    return;
  }
  for (const [i, item] of values.entries()) {
    const prefix = isList ? ['items', String(i)] : [];
    objects.push({ value: item, locate: (path) => at(offsetOf(document, [...prefix, ...segments(path)])) });
  }
}

/** The parser's own words, save where it ran out of stack. */
function inWords(message: string): string {
  return message.startsWith('Maximum call stack') ? 'nested too deeply to be read' : message;
}

/** `spec.http[0].labels[a.b/c]` -> spec, http, 0, labels, a.b/c. */
function segments(path: string): string[] {
  return [...path.matchAll(/\[([^\]]*)\]|([^.[\]]+)/g)].map(([, bracket, name]) => bracket ?? name ?? '');
}

function offsetOf(document: Parsed, path: readonly string[]): number {
  let node: unknown = document.contents;
  let offset = document.contents?.range?.[0] ?? document.range[0];
  for (const segment of path) {
    if (isAlias(node)) node = node.resolve(document);
    let next: unknown;
    if (isMap(node)) {
      const pair = node.items.find((item) => isPair(item) && keyText(item) === segment);
      if (pair === undefined) break;
      offset = (pair.key as Node | null)?.range?.[0] ?? offset;
      next = pair.value;
    } else if (isSeq(node)) {
      next = node.items[Number(segment)];
      offset = (next as Node | undefined)?.range?.[0] ?? offset;
    }
    if (next === undefined) break;
    node = next;
  }
  return offset;
}

function keyText(pair: Pair): string {
  return isScalar(pair.key) ? String(pair.key.value) : '';
}

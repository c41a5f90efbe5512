/**
 * Reading a daemon's YAML config. In: text and file name. Out: typed values with defaults, or one MeshError CONFIG_INVALID that lists
 * every fault as FILE:LINE:COL with the allowed values. Must never: take a key it does not know, or touch the host.
 */
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLMap } from 'yaml';
import { MeshError } from '../api/errors.ts';

/** At most this much of a config file is taken. */
export const MAX_CONFIG_BYTES = 256 * 1024;

/** Reads one YAML mapping key by key; `done` refuses the keys nobody asked for. Faults are collected, not thrown, until the file ends. */
export interface ConfigReader {
  string(key: string, options?: { default?: string; pattern?: RegExp; expected?: string }): string;
  oneOf<T extends string>(key: string, values: readonly T[], fallback: T): T;
  integer(key: string, options: { default: number; min: number; max: number }): number;
  boolean(key: string, fallback: boolean): boolean;
  strings(key: string, options?: { pattern?: RegExp; expected?: string; max?: number }): string[];
  /** A list of at most `max` lists of texts; `check` says what is wrong with one of these, or nothing. */
  stringLists(
    key: string,
    options: { max: number; check: (list: readonly string[]) => string | undefined },
  ): string[][];
  integers(key: string, options: { min: number; max: number }): number[];
  object<T>(key: string, read: (reader: ConfigReader) => T): T;
  list<T>(key: string, read: (reader: ConfigReader) => T): T[];
  /** A mapping whose keys the reader cannot know (labels, named ports), every value a scalar; at most 100 keys. Absent: empty. */
  scalars(key: string): Record<string, string | number | boolean>;
  /** True when the key is in the file. */
  has(key: string): boolean;
  /** Adds a fault of the caller's own at the key's position. */
  fault(key: string, message: string): void;
}

/** Parses `text` (at most 256 KiB) with `read`. Throws CONFIG_INVALID, CONFIG_TOO_LARGE. */
export function readConfig<T>(text: string, file: string, read: (reader: ConfigReader) => T): T {
  if (text.length > MAX_CONFIG_BYTES)
    throw new MeshError('CONFIG_TOO_LARGE', `${file}: larger than ${MAX_CONFIG_BYTES} bytes`);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true });
  const faults: string[] = [];
  const at = (offset: number | undefined) => {
    const position = offset === undefined ? undefined : lines.linePos(offset);
    return position === undefined ? file : `${file}:${position.line}:${position.col}`;
  };
  for (const error of document.errors) faults.push(`${at(error.pos[0])}: ${yamlFault(error)}`);
  let value: T | undefined;
  if (faults.length === 0) {
    if (document.contents !== null && !isMap(document.contents))
      faults.push(`${file}:1:1: expected a mapping of keys to values`);
    else
      value = readMap(document.contents ?? undefined, '', read, (node, message) =>
        faults.push(`${at(node?.range?.[0])}: ${message}`),
      );
  }
  if (faults.length > 0 || value === undefined)
    throw new MeshError('CONFIG_INVALID', faults.join('\n'), { details: { faults } });
  return value;
}

/** What `yaml` says, without the place, which stands in front already, and without advice for programmers. */
function yamlFault({ code, message }: { readonly code: string; readonly message: string }): string {
  if (code === 'MULTIPLE_DOCS') return 'a second document begins here; one is expected';
  return (message.split('\n')[0] ?? '').replace(/ at line \d+, column \d+:?$/, '');
}

type Fault = (node: Node | undefined | null, message: string) => void;

function readMap<T>(map: YAMLMap | undefined, path: string, read: (reader: ConfigReader) => T, fault: Fault): T {
  const known = new Set<string>();
  const name = (key: string) => (path === '' ? key : `${path}.${key}`);
  const nodeOf = (key: string): Node | undefined => {
    known.add(key);
    return (map?.get(key, true) as Node | undefined) ?? undefined;
  };
  const scalar = <V>(key: string, type: string, check: (value: unknown) => value is V, fallback: V | undefined): V => {
    const node = nodeOf(key);
    if (node === undefined) {
      if (fallback === undefined) fault(map, `${name(key)} is required: ${type}`);
      return fallback as V;
    }
    const value = isScalar(node) ? node.value : undefined;
    if (check(value)) return value;
    fault(node, `${name(key)}: expected ${type}, found ${show(value, node)}`);
    return fallback as V;
  };
  const sequence = <V>(key: string, max: number, one: (node: Node, index: number) => V | undefined): V[] => {
    const node = nodeOf(key);
    if (node === undefined) return [];
    if (!isSeq(node)) {
      fault(node, `${name(key)}: expected a list`);
      return [];
    }
    if (node.items.length > max) fault(node, `${name(key)}: at most ${max} items`);
    return node.items.slice(0, max).flatMap((item, index) => one(item as Node, index) ?? []);
  };
  const reader: ConfigReader = {
    string: (key, options = {}) => {
      const expected =
        options.expected ?? (options.pattern === undefined ? 'a text' : `a text like ${options.pattern.source}`);
      const isText = (v: unknown): v is string => typeof v === 'string' && (options.pattern?.test(v) ?? true);
      return scalar(key, expected, isText, options.default);
    },
    oneOf: (key, values, fallback) => {
      const isOne = (v: unknown): v is (typeof values)[number] => (values as readonly unknown[]).includes(v);
      return scalar(key, `one of ${values.join(', ')}`, isOne, fallback);
    },
    integer: (key, { default: fallback, min, max }) =>
      scalar(key, `a whole number from ${min} to ${max}`, isInteger(min, max), fallback),
    boolean: (key, fallback) => scalar(key, 'true or false', (v): v is boolean => typeof v === 'boolean', fallback),
    strings: (key, options = {}) =>
      sequence(key, options.max ?? 1000, (node) => {
        const value = isScalar(node) ? node.value : undefined;
        if (typeof value === 'string' && (options.pattern?.test(value) ?? true)) return value;
        fault(node, `${name(key)}: expected ${options.expected ?? 'a text'}, found ${show(value, node)}`);
        return undefined;
      }),
    stringLists: (key, { max, check }) =>
      sequence(key, max, (node, index) => {
        const at = `${name(key)}[${index}]`;
        const items = isSeq(node) ? (node.items as Node[]) : [];
        const list = items.map((item) => (isScalar(item) ? item.value : undefined));
        const odd = list.findIndex((value) => typeof value !== 'string');
        const why = odd < 0 && isSeq(node) ? check(list as string[]) : undefined;
        if (!isSeq(node)) fault(node, `${at}: expected a list of texts`);
        else if (odd >= 0)
          fault(items[odd], `${at}[${odd}]: expected a text (in quotes), found ${show(list[odd], items[odd] as Node)}`);
        else if (why !== undefined) fault(node, `${at}: ${why}`);
        else return { list: list as string[] };
        return undefined;
      }).map(({ list }) => list),
    integers: (key, { min, max }) =>
      sequence(key, 1000, (node) => {
        const value = isScalar(node) ? node.value : undefined;
        if (isInteger(min, max)(value)) return value;
        fault(node, `${name(key)}: expected a whole number from ${min} to ${max}, found ${show(value, node)}`);
        return undefined;
      }),
    object: (key, inner) => {
      const node = nodeOf(key);
      if (node !== undefined && !isMap(node)) fault(node, `${name(key)}: expected a mapping`);
      return readMap(isMap(node) ? node : undefined, name(key), inner, fault);
    },
    list: (key, inner) =>
      sequence(key, 1000, (node, index) => {
        if (isMap(node)) return readMap(node, `${name(key)}[${index}]`, inner, fault);
        fault(node, `${name(key)}[${index}]: expected a mapping`);
        return undefined;
      }),
    scalars: (key) => {
      const node = nodeOf(key);
      const found: Record<string, string | number | boolean> = {};
      if (node !== undefined && !isMap(node)) fault(node, `${name(key)}: expected a mapping`);
      if (!isMap(node)) return found;
      if (node.items.length > 100) fault(node, `${name(key)}: at most 100 keys`);
      for (const item of node.items.slice(0, 100)) {
        const value = isScalar(item.value) ? item.value.value : undefined;
        if (
          isScalar(item.key) &&
          (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
        )
          found[String(item.key.value)] = value;
        else
          fault(
            item.key as Node,
            `${name(key)}.${isScalar(item.key) ? String(item.key.value) : '?'}: expected a text or a number`,
          );
      }
      return found;
    },
    has: (key) => nodeOf(key) !== undefined,
    fault: (key, message) => fault(nodeOf(key) ?? map, `${name(key)}: ${message}`),
  };
  const value = read(reader);
  for (const item of map?.items ?? []) {
    const key = isScalar(item.key) ? String(item.key.value) : '?';
    if (!known.has(key))
      fault(item.key as Node, `unknown key ${name(key)}; allowed here: ${[...known].sort().join(', ')}`);
  }
  return value;
}

function isInteger(min: number, max: number): (value: unknown) => value is number {
  return (value): value is number =>
    typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
}

function show(value: unknown, node: Node): string {
  return isScalar(node) ? JSON.stringify(value)?.slice(0, 80) : isMap(node) ? 'a mapping' : 'a list';
}

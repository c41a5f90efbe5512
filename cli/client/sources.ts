import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '../../api/errors.ts';
import { DOCUMENT_LIMITS, parseDocuments, type SourceObject } from '../../api/resources/documents.ts';
import type { CliContext } from '../context.ts';

/** One object as an operator wrote it, and where. */
export interface SourcedObject {
  /** File as it was named, or `stdin`. */
  readonly file: string;
  readonly source: SourceObject;
}

/** `FILE:LINE:COL` of a path in an object. */
export function place(object: SourcedObject, path: string): string {
  const { line, col } = object.source.locate(path);
  return `${object.file}:${line}:${col}`;
}

/**
 * Objects of files, folders (their *.yaml, *.yml and *.json, by name, not deeper) and `-` (standard input), in that order. Throws
 * SOURCE_INVALID with one line a problem.
 */
export async function readSources(context: CliContext, names: readonly string[]): Promise<SourcedObject[]> {
  const objects: SourcedObject[] = [];
  const problems: string[] = [];
  for (const name of names) {
    for (const file of name === '-' ? ['-'] : await filesOf(name)) {
      const label = file === '-' ? 'stdin' : file;
      const text = file === '-' ? await context.readStdin(DOCUMENT_LIMITS.maxBytes) : await readBounded(file);
      const parsed = parseDocuments(text);
      for (const { message, position } of parsed.errors)
        problems.push(`${label}:${position.line}:${position.col}: ${message}`);
      for (const source of parsed.objects) objects.push({ file: label, source });
    }
  }
  if (problems.length > 0) throw new MeshError('SOURCE_INVALID', problems.join('\n'));
  if (objects.length === 0) throw new MeshError('SOURCE_INVALID', `no objects in ${names.join(', ')}`);
  return objects;
}

async function filesOf(name: string): Promise<string[]> {
  try {
    if (!(await stat(name)).isDirectory()) return [name];
    const entries = await readdir(name, { withFileTypes: true });
    const files = entries.filter((entry) => !entry.isDirectory() && /\.(ya?ml|json)$/.test(entry.name));
    return files.map((entry) => join(name, entry.name)).sort();
  } catch (cause) {
    throw unreadable(name, cause);
  }
}

async function readBounded(file: string): Promise<string> {
  try {
    const handle = await open(file, 'r');
    try {
      const { size } = await handle.stat();
      if (size > DOCUMENT_LIMITS.maxBytes)
        throw new MeshError('SOURCE_INVALID', `${file}: larger than ${DOCUMENT_LIMITS.maxBytes} bytes`);
      return await handle.readFile('utf8');
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw cause instanceof MeshError ? cause : unreadable(file, cause);
  }
}

function unreadable(file: string, cause: unknown): MeshError {
  return new MeshError('SOURCE_INVALID', `cannot read ${file}: ${(cause as Error).message}`, { cause });
}

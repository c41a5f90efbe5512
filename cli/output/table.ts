import type { MeshObject } from '../../api/resources/object.ts';
import type { Column, KindInfo } from '../../api/resources/registry.ts';
import { showHidden } from '../../api/text.ts';

/** Aligned columns, header in capitals; cells are made one line and free of control characters (an object may hold terminal codes). */
export function renderTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header.map((name) => name.toUpperCase()), ...rows.map((row) => row.map(plain))];
  const widths = header.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, i) => (i === line.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)))
        .join('   ')
        .trimEnd(),
    )
    .join('\n');
}

/** Text safe to print: no controls, and what would be invisible or turn the direction of what follows is written out. */
export function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return showHidden(text.replace(/[\x00-\x1f\x7f-\x9f]+/g, ' '));
}

/** Table of objects of one kind; a NAMESPACE column first when `withNamespace`. `now` in ms for ages. */
export function objectTable(
  info: KindInfo,
  objects: readonly MeshObject[],
  withNamespace: boolean,
  now: number,
): string {
  const namespaced = withNamespace && info.namespaced;
  const header = [...(namespaced ? ['namespace'] : []), 'name', ...info.columns.map((column) => column.name)];
  const rows = objects.map((object) => [
    ...(namespaced ? [object.metadata.namespace ?? ''] : []),
    object.metadata.name,
    ...info.columns.map((column) => cell(object, column, now)),
  ]);
  return renderTable(header, rows);
}

function cell(object: MeshObject, column: Column, now: number): string {
  const value = valueAt(object, column.path.split('.'));
  if (value === undefined || value === null) return '';
  if (column.type === 'date') return age(Date.parse(String(value)), now);
  return Array.isArray(value) ? value.map(String).join(',') : String(value);
}

/** Follows a dotted path; a list on the way is followed in each of its items. */
function valueAt(value: unknown, path: readonly string[]): unknown {
  const [head, ...rest] = path;
  if (head === undefined || value === undefined || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => valueAt(item, path)).filter((item) => item !== undefined);
  return valueAt((value as Record<string, unknown>)[head], rest);
}

/** `5s`, `12m`, `3h`, `9d`; empty for no date. */
export function age(since: number, now: number): string {
  if (!Number.isFinite(since)) return '';
  const seconds = Math.max(0, Math.floor((now - since) / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

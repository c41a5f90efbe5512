import type { Listener } from '../host/sockets.ts';
import { renderRules } from './rules.ts';
import type { Family, RedirectSpec } from './spec.ts';
import { projectSave, readTable, TABLES } from './tables.ts';

/** A listening socket that the rules would lead to the proxy, for a person to look over. */
export interface CapturedSocket {
  readonly port: number;
  readonly address: string;
  readonly uid: number;
}

/**
 * What `redirect plan` prints: per family the diff of iptables-save (ours and foreign rules alike, without counters), and the sockets that
 * listen on captured ports now. `saves`: text of iptables-save now. Pure.
 */
export function planText(
  spec: RedirectSpec,
  saves: ReadonlyMap<Family, string>,
  listeners: readonly Listener[],
  uncaptured: readonly { port: number; reason: string }[],
): string {
  const parts: string[] = [];
  for (const [family, save] of saves) {
    const current = new Map(TABLES.map((name) => [name, readTable(save, name)]));
    const diff = unifiedDiff(projectSave(save, current), projectSave(save, renderRules(spec, family)));
    const program = family === 'v4' ? 'iptables-save' : 'ip6tables-save';
    parts.push(diff === '' ? `# ${program}: no change` : `--- ${program} (now)\n+++ ${program} (after)\n${diff}`);
  }
  parts.push('# listening sockets that would be captured:');
  const sockets = capturedSockets(spec, listeners);
  parts.push(
    ...sockets.map((s) => `#   tcp ${s.address.includes(':') ? `[${s.address}]` : s.address}:${s.port}, uid ${s.uid}`),
  );
  if (sockets.length === 0) parts.push('#   none');
  parts.push(...uncaptured.map(({ port, reason }) => `# left alone: port ${port}: ${reason}`));
  return `${parts.join('\n')}\n`;
}

/** Sockets on the spec's inbound ports, by port and address. */
export function capturedSockets(spec: RedirectSpec, listeners: readonly Listener[]): CapturedSocket[] {
  const ports = new Set(spec.inboundPorts.map((p) => p.port));
  return listeners
    .filter((listener) => ports.has(listener.port))
    .map(({ port, address, uid }) => ({ port, address, uid }))
    .sort((a, b) => a.port - b.port || (a.address < b.address ? -1 : 1));
}

const CONTEXT = 3;

/** Unified diff of two texts by line, three lines of context, without file headers; empty when they are equal. */
export function unifiedDiff(before: readonly string[], after: readonly string[]): string {
  const edits = diffLines(before, after);
  const hunks: string[] = [];
  for (let at = 0; at < edits.length; ) {
    const start = edits.findIndex((edit, i) => i >= at && edit.sign !== ' ');
    if (start < 0) break;
    let end = start;
    for (let i = start; i < edits.length && i <= end + 2 * CONTEXT; i++) if (edits[i]?.sign !== ' ') end = i;
    const from = Math.max(at, start - CONTEXT);
    const part = edits.slice(from, end + CONTEXT + 1);
    const count = (skip: string) => part.filter((edit) => edit.sign !== skip).length;
    const line = (skip: string) => edits.slice(0, from).filter((edit) => edit.sign !== skip).length + 1;
    hunks.push(
      `@@ -${line('+')},${count('+')} +${line('-')},${count('-')} @@`,
      ...part.map((edit) => edit.sign + edit.text),
    );
    at = end + CONTEXT + 1;
  }
  return hunks.join('\n');
}

interface Edit {
  readonly sign: ' ' | '+' | '-';
  readonly text: string;
}

/** Longest common subsequence after the equal head and tail are set aside: what differs is our part, some hundred lines at most. */
function diffLines(before: readonly string[], after: readonly string[]): Edit[] {
  let head = 0;
  while (head < before.length && head < after.length && before[head] === after[head]) head++;
  let tail = 0;
  while (tail < before.length - head && tail < after.length - head && before.at(-1 - tail) === after.at(-1 - tail))
    tail++;
  const a = before.slice(head, before.length - tail);
  const b = after.slice(head, after.length - tail);
  const same = (text: string): Edit => ({ sign: ' ', text });
  return [...before.slice(0, head).map(same), ...editsOf(a, b), ...before.slice(before.length - tail).map(same)];
}

function editsOf(a: readonly string[], b: readonly string[]): Edit[] {
  if (a.length * b.length > 4_000_000)
    return [...a.map((text): Edit => ({ sign: '-', text })), ...b.map((text): Edit => ({ sign: '+', text }))];
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  const at = (i: number, j: number) => longest[i * width + j] ?? 0;
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      longest[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  const edits: Edit[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      edits.push({ sign: ' ', text: a[i] ?? '' });
      i++;
      j++;
    } else if (i < a.length && (j === b.length || at(i + 1, j) >= at(i, j + 1)))
      edits.push({ sign: '-', text: a[i++] ?? '' });
    else edits.push({ sign: '+', text: b[j++] ?? '' });
  }
  return edits;
}

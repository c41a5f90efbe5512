/** Tables that we write, in the order in which they are written: guards before redirects. */
export const TABLES = ['filter', 'raw', 'nat'] as const;
export type TableName = (typeof TABLES)[number];

/** Our part of one table, in the words of iptables-save: chain -> its `-A` lines; `jumps` are the `-A` lines of built-in chains that enter it. */
export interface OwnedTable {
  readonly chains: ReadonlyMap<string, readonly string[]>;
  readonly jumps: readonly string[];
}

/** Our part as it was read from the kernel. */
export interface ReadTable extends OwnedTable {
  /** Whether the table exists at all (nft: a table that nobody created is absent from iptables-save). */
  readonly present: boolean;
  /** False when a foreign rule stands before one of our jumps: an ACCEPT there would switch a guard off. */
  readonly jumpsLead: boolean;
  /** True when nothing but ours is in it: no foreign rule, chain or policy. */
  readonly otherwiseEmpty: boolean;
}

const OWN_CHAIN = /^MESH_(OUTPUT|PREROUTING|GUARD_OUT|GUARD_IN|GUARD_ANSWER|ZONE)$/;
const TARGET = /(?:^| )(?:-j|-g) (\S+)(?: |$)/;

/** Chain or target that a rule leads to; quoted text (a foreign rule's comment) is not looked at. */
function targetOf(line: string): string {
  return TARGET.exec(line.replace(/"(?:\\.|[^"\\])*"/g, '""'))?.[1] ?? '';
}

/** Reads our part of one table out of the text of iptables-save (counters and comments are skipped). Never throws. */
export function readTable(save: string, name: TableName): ReadTable {
  const lines = tableLines(save, name);
  const chains = new Map<string, string[]>();
  const jumps: string[] = [];
  const foreignIn = new Set<string>();
  let jumpsLead = true;
  let otherwiseEmpty = true;
  for (const line of lines ?? []) {
    const [, chain = ''] = /^(?::|-A )(\S+)/.exec(line) ?? [];
    if (line.startsWith(':')) {
      if (OWN_CHAIN.test(chain)) chains.set(chain, []);
      else if (!/ ACCEPT /.test(line)) otherwiseEmpty = false; // a user chain (-) or another policy
    } else if (OWN_CHAIN.test(chain)) {
      chains.get(chain)?.push(line);
    } else if (OWN_CHAIN.test(targetOf(line))) {
      jumps.push(line);
      if (foreignIn.has(chain)) jumpsLead = false;
    } else if (line.startsWith('-A ')) {
      foreignIn.add(chain);
      otherwiseEmpty = false;
    }
  }
  return { present: lines !== undefined, chains, jumps, jumpsLead, otherwiseEmpty };
}

function tableLines(save: string, name: TableName): string[] | undefined {
  const lines = save.split('\n').map((line) => line.trimEnd());
  const start = lines.indexOf(`*${name}`);
  if (start < 0) return undefined;
  const end = lines.indexOf('COMMIT', start);
  return lines.slice(start + 1, end < 0 ? undefined : end);
}

/** Our part as one text: what is hashed and compared. Jumps are ordered within a built-in chain only, so they are sorted by it. */
export function ownedText(table: OwnedTable): string {
  const jumps = [...table.jumps].sort((a, b) => compare(a.split(' ')[1] ?? '', b.split(' ')[1] ?? ''));
  const chains = [...table.chains].sort(([a], [b]) => compare(a, b)).flatMap(([name, rules]) => [`:${name}`, ...rules]);
  return [...jumps, ...chains].join('\n');
}

/** True when the kernel has exactly the wanted content, entered first. */
export function sameTable(current: ReadTable, wanted: OwnedTable): boolean {
  return current.jumpsLead && ownedText(current) === ownedText(wanted);
}

/** True when nothing of ours is there. */
export function isClean(table: OwnedTable): boolean {
  return table.chains.size === 0 && table.jumps.length === 0;
}

/**
 * Text for `iptables-restore --noflush` that turns our part of one table from `current` into `wanted` in one commit; foreign rules are not
 * named. `:CHAIN - [0:0]` makes a chain or empties the one there is. Empty text when there is nothing to do.
 */
export function restoreText(name: TableName, current: OwnedTable, wanted: OwnedTable): string {
  if (isClean(current) && isClean(wanted)) return '';
  const gone = [...current.chains.keys()].filter((chain) => !wanted.chains.has(chain));
  const lines = [
    `*${name}`,
    ...[...wanted.chains.keys(), ...gone].map((chain) => `:${chain} - [0:0]`),
    ...current.jumps.map((jump) => jump.replace(/^-A /, '-D ')),
    ...[...wanted.chains.values()].flat(),
    ...[...wanted.jumps].reverse().map((jump) => jump.replace(/^-A (\S+)/, '-I $1 1')),
    ...gone.map((chain) => `-X ${chain}`),
    'COMMIT',
  ];
  return `${lines.join('\n')}\n`;
}

/** The text of iptables-save as it would be with `wanted` in place of our part: for `plan`. Counters and dates are left out. */
export function projectSave(save: string, wanted: ReadonlyMap<TableName, OwnedTable>): string[] {
  return TABLES.flatMap((name) => projectTable(save, name, wanted.get(name) ?? { chains: new Map(), jumps: [] }));
}

function projectTable(save: string, name: TableName, wanted: OwnedTable): string[] {
  const isOurs = (line: string) =>
    OWN_CHAIN.test(/^(?::|-A )(\S+)/.exec(line)?.[1] ?? '') || OWN_CHAIN.test(targetOf(line));
  const foreign = (tableLines(save, name) ?? [])
    .filter((line) => !isOurs(line))
    .map((line) => line.replace(/ \[\d+:\d+\]$/, ''));
  if (foreign.length === 0 && isClean(wanted)) return [];
  const chains = [...wanted.chains].sort(([a], [b]) => compare(a, b)); // as iptables-save lists them
  return [
    `*${name}`,
    ...foreign.filter((line) => line.startsWith(':')),
    ...chains.map(([chain]) => `:${chain} -`),
    ...wanted.jumps,
    ...foreign.filter((line) => !line.startsWith(':')),
    ...chains.flatMap(([, rules]) => rules),
    'COMMIT',
  ];
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

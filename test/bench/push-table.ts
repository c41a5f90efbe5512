/** Work, the peer's figure, the aim, ours. */
export type Row = readonly [work: string, peer: string, aim: string, here: string];

const HEAD: Row = ['work', 'peer', 'aim', 'here'];

/** Lines of a table with columns as wide as they need to be. */
export function tableOf(rows: readonly Row[]): string[] {
  const all = [HEAD, ...rows];
  const widths = HEAD.map((_, i) => Math.max(...all.map((row) => row[i]?.length ?? 0)));
  return all.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

import { plain } from './table.ts';

/** A host and whom its gossip is linked to, as it says; `links` undefined: it has said nothing. */
export interface Member {
  readonly host: string;
  readonly links: readonly string[] | undefined;
}

interface Edge {
  readonly a: string;
  readonly b: string;
  /** Only one of the two names it: a link that came or went a moment ago, or a host that has said nothing. */
  readonly half: boolean;
}

/** The overlay in Graphviz's language: `meshctl peers graph --dot | dot -Tsvg`. Links that only one side names are dashed. Pure. */
export function overlayDot(members: readonly Member[]): string {
  const id = (host: string) => JSON.stringify(plain(host));
  return [
    'graph overlay {',
    '  layout=circo; node [shape=box, fontname=sans]; ',
    ...members.map(({ host, links }) => `  ${id(host)}${links === undefined ? ' [style=dashed]' : ''};`),
    ...edgesOf(members).map(({ a, b, half }) => `  ${id(a)} -- ${id(b)}${half ? ' [style=dashed]' : ''};`),
    '}',
  ]
    .map((line) => line.trimEnd())
    .join('\n');
}

/** The overlay as text: a line a host with a bar of its degree and its links, then what matters of the whole. Pure. */
export function overlayText(members: readonly Member[]): string {
  const edges = edgesOf(members);
  const near = neighbours(members, edges);
  const silent = new Set(members.filter(({ links }) => links === undefined).map(({ host }) => host));
  const denied = edges.filter(
    ({ a, b, half }) => half && !silent.has(a) && !silent.has(b) && near.has(a) && near.has(b),
  );
  const halves = new Set(denied.map(({ a, b }) => JSON.stringify([a, b])));
  const isDenied = (a: string, b: string) => halves.has(JSON.stringify(a < b ? [a, b] : [b, a]));
  const width = Math.max(4, ...members.map(({ host }) => host.length));
  const lines = members.map(({ host, links }) => {
    const linked = [...(near.get(host) ?? [])].sort().map((other) => (isDenied(host, other) ? `${other}?` : other));
    const said = links === undefined ? '  (has not said)' : '';
    return plain(
      `${host.padEnd(width)} ${String(linked.length).padStart(3)} ${'#'.repeat(linked.length)} ${linked.join(' ')}${said}`,
    ).trimEnd();
  });
  const degrees = members.filter((m) => m.links !== undefined).map(({ host }) => near.get(host)?.size ?? 0);
  const mean = degrees.reduce((a, b) => a + b, 0) / Math.max(1, degrees.length);
  const parts = partsOf(members, near);
  return [
    ...lines,
    '',
    ...(halves.size > 0 ? ['?: one side names the link, the other does not (yet, or any more)'] : []),
    `${members.length} hosts, ${edges.length} links; degree ${Math.min(...degrees, 1e9) === 1e9 ? 0 : Math.min(...degrees)} to ${Math.max(0, ...degrees)}, ${mean.toFixed(1)} in the mean; ${parts.count === 1 ? `in one piece, at most ${parts.hops} hops` : `in ${parts.count} pieces, the largest of ${parts.largest} hosts`}`,
  ].join('\n');
}

function edgesOf(members: readonly Member[]): Edge[] {
  const sides = new Map<string, { a: string; b: string; said: Set<string> }>();
  for (const { host, links } of members)
    for (const other of links ?? []) {
      const [a, b] = host < other ? [host, other] : [other, host];
      const key = JSON.stringify([a, b]);
      const edge = sides.get(key) ?? { a, b, said: new Set<string>() };
      edge.said.add(host);
      sides.set(key, edge);
    }
  return [...sides.values()].map(({ a, b, said }) => ({ a, b, half: said.size < 2 }));
}

function neighbours(members: readonly Member[], edges: readonly Edge[]): Map<string, Set<string>> {
  const near = new Map(members.map(({ host }) => [host, new Set<string>()]));
  for (const { a, b } of edges) {
    near.get(a)?.add(b);
    near.get(b)?.add(a);
  }
  return near;
}

/** Pieces that are linked in themselves; `hops` is the longest of all shortest ways of the largest one. */
function partsOf(
  members: readonly Member[],
  near: ReadonlyMap<string, ReadonlySet<string>>,
): { count: number; largest: number; hops: number } {
  const seen = new Set<string>();
  let count = 0;
  let largest = 0;
  let hops = 0;
  for (const { host } of members) {
    const reach = distances(host, near);
    hops = Math.max(hops, ...reach.values());
    if (seen.has(host)) continue;
    count += 1;
    largest = Math.max(largest, reach.size);
    for (const other of reach.keys()) seen.add(other);
  }
  return { count, largest, hops };
}

function distances(from: string, near: ReadonlyMap<string, ReadonlySet<string>>): Map<string, number> {
  const out = new Map([[from, 0]]);
  for (const [host, far] of out) for (const next of near.get(host) ?? []) if (!out.has(next)) out.set(next, far + 1);
  return out;
}

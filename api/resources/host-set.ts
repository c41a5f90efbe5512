/**
 * Names of hosts and wildcards that are asked often whether one of them matches, as hostsMatch and hostWithin (formats.ts) have it of two:
 * a look costs the logarithm of their number, because an object may ask a thousand times of a thousand.
 */
export class HostSet {
  private readonly names = new Set<string>();
  /** What follows the `*` of wildcards, and its lengths, which are few. */
  private readonly suffixes = new Set<string>();
  private readonly lengths = new Set<number>();
  private sorted: readonly string[] | undefined;

  constructor(hosts: Iterable<string>) {
    for (const host of hosts) {
      if (!host.startsWith('*')) this.names.add(host);
      else {
        this.suffixes.add(host.slice(1));
        this.lengths.add(host.length - 1);
      }
    }
  }

  get size(): number {
    return this.names.size + this.suffixes.size;
  }

  /** What a look costs, in comparisons. */
  get cost(): number {
    return 2 + this.lengths.size;
  }

  /** One of them and `host` (perhaps a wildcard) have a name in common. */
  matches(host: string): boolean {
    const wild = host.startsWith('*');
    const text = wild ? host.slice(1) : host;
    if (!wild && this.names.has(host)) return true;
    for (const length of this.lengths)
      if (length <= text.length && this.suffixes.has(text.slice(text.length - length))) return true;
    return wild && this.endsWith(text);
  }

  /** One of them names nothing but what `outer` (perhaps a wildcard) names. */
  hasWithin(outer: string): boolean {
    return outer.startsWith('*') ? this.endsWith(outer.slice(1)) : this.names.has(outer);
  }

  /** Some name, or what follows the `*` of a wildcard, ends so. */
  private endsWith(suffix: string): boolean {
    this.sorted ??= [...this.names, ...this.suffixes].map(backwards).sort();
    const wanted = backwards(suffix);
    let [low, high] = [0, this.sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.sorted[middle] as string) < wanted) low = middle + 1;
      else high = middle;
    }
    return this.sorted[low]?.startsWith(wanted) ?? false;
  }
}

function backwards(text: string): string {
  return [...text].reverse().join('');
}

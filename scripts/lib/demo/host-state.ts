/**
 * What a host's network looks like apart from the mesh: rules, routes, loopback addresses. In: a host. Out: text to compare before and after.
 * Foreign rules are planted first, so that leaving them alone is shown and not assumed.
 */
import { must } from './run.ts';
import type { World } from './world.ts';

/** Rules of somebody else's: a chain of its own, a policy rule before ours and one after, a nat rule; in both families. */
const PLANT = `set -e
for t in iptables ip6tables; do
  $t -N FOREIGN
  $t -A INPUT -p tcp --dport 4444 -j FOREIGN
  $t -A FOREIGN -m comment --comment "somebody else's: leave alone" -j DROP
  $t -A OUTPUT -p udp --dport 4445 -j ACCEPT
  $t -t nat -A PREROUTING -p tcp --dport 4446 -j REDIRECT --to-ports 4447
  $t -t mangle -A OUTPUT -p tcp --dport 4448 -j MARK --set-mark 7
done`;

const SAVE = 'iptables-save; ip6tables-save; echo routes; ip route; ip -6 route; echo lo; ip addr show dev lo';

/** Plants the foreign rules on a host of the lab. */
export async function plantForeignRules(world: World, host: string): Promise<void> {
  must(await world.on(host, undefined, ['sh', '-c', PLANT]), `foreign rules on ${host}`);
}

/** iptables-save, ip6tables-save, routes and loopback addresses of a host, without what changes by itself. */
export async function hostState(world: World, host: string): Promise<string> {
  return comparable(must(await world.on(host, undefined, ['sh', '-c', SAVE]), `rules of ${host}`).stdout);
}

/** Without comments with dates, packet counters and remaining lifetimes: all else must be equal byte for byte. */
export function comparable(saved: string): string {
  return saved
    .replace(/^#.*\n/gm, '')
    .replace(/\[\d+:\d+\]/g, '[0:0]')
    .replace(/ (expires|valid_lft|preferred_lft) \S+/g, '');
}

/** The first line in which two states differ, both ways; undefined when they are equal. */
export function firstDifference(before: string, after: string): string | undefined {
  if (before === after) return undefined;
  const [was, is] = [before.split('\n'), after.split('\n')];
  const at = was.findIndex((line, i) => line !== is[i]);
  const line = at < 0 ? was.length : at;
  return `line ${line + 1}: was ${JSON.stringify(was[line] ?? 'the end')}, is ${JSON.stringify(is[line] ?? 'the end')}`;
}

import { BlockList } from 'node:net';
import { networkInterfaces } from 'node:os';

/** Addresses that never reach another host: loopback, link-local, multicast, unspecified, and the mesh's own VIP range in IPv4. */
const NOT_GLOBAL_4 = new BlockList();
/** A list of its own: Node compares IPv4 addresses as ::ffff:a.b.c.d, which ::/64 covers. */
const NOT_GLOBAL_6 = new BlockList();
for (const [net, bits] of [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  // stands for nobody (RFC 7600); our link for systemd-resolved has it
  ['192.0.0.8', 32],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const)
  NOT_GLOBAL_4.addSubnet(net, bits, 'ipv4');
for (const [net, bits] of [
  ['::', 64],
  ['fe80::', 10],
  ['ff00::', 8],
] as const)
  NOT_GLOBAL_6.addSubnet(net, bits, 'ipv6');

/** True for an address that peers may be told: unicast and not bound to this host or link. Private and ULA ranges count. */
export function isGlobalUnicast(address: string): boolean {
  return address.includes(':') ? !NOT_GLOBAL_6.check(address, 'ipv6') : !NOT_GLOBAL_4.check(address, 'ipv4');
}

/**
 * Global unicast addresses of this host, IPv4 before IPv6, each in the order of the interfaces, without duplicates.
 * `interfaces` is for tests; default os.networkInterfaces(), which lists interfaces that are up.
 */
export function globalAddresses(interfaces: ReturnType<typeof networkInterfaces> = networkInterfaces()): string[] {
  const all = Object.values(interfaces).flatMap((list) => list ?? []);
  const usable = all.filter((entry) => !entry.internal && isGlobalUnicast(entry.address));
  const of = (family: string) => usable.filter((entry) => entry.family === family).map((entry) => entry.address);
  return [...new Set([...of('IPv4'), ...of('IPv6')])];
}

/** Whether this host has IPv6 at all: `::1` on loopback. The same test as the redirection's: listeners and rules must agree on it. */
export function hasIpv6(interfaces: ReturnType<typeof networkInterfaces> = networkInterfaces()): boolean {
  return Object.values(interfaces).some((list) => list?.some((entry) => entry.internal && entry.address === '::1'));
}

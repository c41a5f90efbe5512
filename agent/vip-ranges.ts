import { BlockList } from 'node:net';

/** True when the address (textual, IPv4 or IPv6) lies in one of the CIDRs. */
export function isWithin(address: string, cidrs: readonly string[]): boolean {
  const family = familyOf(address);
  const list = new BlockList();
  for (const cidr of cidrs) {
    const [network = '', bits = ''] = cidr.split('/');
    if (familyOf(network) === family) list.addSubnet(network, Number(bits), family);
  }
  return list.check(address, family);
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return address.includes(':') ? 'ipv6' : 'ipv4';
}

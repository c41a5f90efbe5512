/** Addresses and endpoints as text: one spelling each, and which of them a host may not claim. Pure. */

/** The one spelling of an IPv4 or IPv6 address (RFC 5952), or undefined. Zones (`%eth0`) are refused. */
export function canonicalIp(text: string): string | undefined {
  if (/^(\d{1,3}\.){3}\d{1,3}$/.test(text)) {
    const parts = text.split('.');
    return parts.every((p) => String(Number(p)) === p && Number(p) <= 255) ? text : undefined;
  }
  if (!text.includes(':') || !/^[0-9a-fA-F:.]{2,45}$/.test(text)) return undefined;
  try {
    return new URL(`http://[${text}]/`).hostname.slice(1, -1);
  } catch {
    return undefined;
  }
}

export interface IpEndpoint {
  readonly address: string;
  readonly port: number;
}

/** Parses `IP:PORT` or `[IP6]:PORT` in canonical spelling; undefined on anything else. */
export function parseEndpoint(text: string): IpEndpoint | undefined {
  const match = /^(?:\[([0-9a-f:.]{2,45})\]|([0-9.]{7,15})):(\d{1,5})$/.exec(text);
  const address = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (address === undefined || canonicalIp(address) !== address || String(port) !== match?.[3]) return undefined;
  if (match?.[1]?.includes(':') === false) return undefined;
  return port >= 1 && port <= 65535 ? { address, port } : undefined;
}

export function formatEndpoint(endpoint: IpEndpoint): string {
  return endpoint.address.includes(':')
    ? `[${endpoint.address}]:${endpoint.port}`
    : `${endpoint.address}:${endpoint.port}`;
}

/** True for addresses that reach a host from elsewhere: not loopback, link-local, multicast, unspecified or IPv4-mapped (DESIGN 3.2). */
export function isClaimable(address: string): boolean {
  const ip = canonicalIp(address);
  if (ip === undefined) return false;
  if (!ip.includes(':')) return !/^(0|127|22[4-9]|23\d|24\d|25[0-5])\.|^169\.254\./.test(ip);
  return ip !== '::' && ip !== '::1' && !/^(fe[89ab]|ff|::ffff:)/.test(ip);
}

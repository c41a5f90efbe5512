/**
 * IP addresses and ranges of them, by their text: what api/resources judges operators' addresses by, and what agents ask whether an address
 * is a virtual one. Pure; the one place where an address becomes bytes.
 */

/** An IP address, by text. Zone ids and leading zeros are refused. */
export function ipVersion(text: string): 0 | 4 | 6 {
  const octets = text.split('.');
  if (octets.length === 4 && octets.every((octet) => /^(0|[1-9]\d{0,2})$/.test(octet) && Number(octet) <= 255))
    return 4;
  return parseIp6(text) === undefined ? 0 : 6;
}

/** The 16 bytes of an IPv6 address, or undefined. */
export function parseIp6(text: string): number[] | undefined {
  if (text.length > 45 || !text.includes(':')) return undefined;
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const groups = halves.map(parseGroups);
  const [head, tail] = groups;
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  const missing = 16 - head.length - (tail?.length ?? 0);
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined;
  return [...head, ...Array<number>(missing).fill(0), ...(tail ?? [])];
}

function parseGroups(text: string): number[] | undefined {
  if (text === '') return [];
  const bytes: number[] = [];
  const parts = text.split(':');
  for (const [i, part] of parts.entries()) {
    if (i === parts.length - 1 && ipVersion4(part)) bytes.push(...part.split('.').map(Number));
    else if (/^[0-9a-fA-F]{1,4}$/.test(part))
      bytes.push(Number.parseInt(part, 16) >> 8, Number.parseInt(part, 16) & 255);
    else return undefined;
  }
  return bytes;
}

function ipVersion4(text: string): boolean {
  return text.includes('.') && ipVersion(text) === 4;
}

/** The bytes of an address: 4 or 16. Undefined when it is none. */
export function ipBytes(text: string): number[] | undefined {
  return ipVersion(text) === 4 ? text.split('.').map(Number) : parseIp6(text);
}

/** Parses `ADDRESS` or `ADDRESS/PREFIX`. */
export function parseCidr(text: string): { bytes: number[]; prefix: number } | undefined {
  const [address = '', prefix, ...more] = text.split('/');
  const bytes = ipBytes(address);
  if (bytes === undefined || more.length > 0) return undefined;
  if (prefix === undefined) return { bytes, prefix: bytes.length * 8 };
  if (!/^(0|[1-9]\d{0,2})$/.test(prefix) || Number(prefix) > bytes.length * 8) return undefined;
  return { bytes, prefix: Number(prefix) };
}

/** True when two prefixes of one family share an address. */
export function cidrsOverlap(a: { bytes: number[]; prefix: number }, b: { bytes: number[]; prefix: number }): boolean {
  if (a.bytes.length !== b.bytes.length) return false;
  const bits = Math.min(a.prefix, b.prefix);
  for (let i = 0; i < bits; i++) {
    const mask = 128 >> (i % 8);
    if (((a.bytes[i >> 3] as number) & mask) !== ((b.bytes[i >> 3] as number) & mask)) return false;
  }
  return true;
}

/** True when the address (textual, either family) lies in one of the CIDRs. What is no address lies in none. */
export function isWithin(address: string, cidrs: readonly string[]): boolean {
  const bytes = ipBytes(address);
  if (bytes === undefined) return false;
  const whole = { bytes, prefix: bytes.length * 8 };
  return cidrs.some((text) => {
    const range = parseCidr(text);
    return range !== undefined && cidrsOverlap(range, whole);
  });
}

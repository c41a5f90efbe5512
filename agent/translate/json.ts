import { alike, type Json, type ResourceType, type XdsResource } from './resource-set.ts';

export type JsonObject = { readonly [key: string]: Json | undefined };

/** A google.protobuf.Any in proto3 JSON. `type` without the `type.googleapis.com/` prefix. */
export function any(type: string, body: JsonObject = {}): JsonObject {
  return { '@type': `type.googleapis.com/${type}`, ...body };
}

/** An extension by name with its typed config: filters, transport sockets, matchers' inputs. */
export function extension(name: string, type: string, body: JsonObject = {}): JsonObject {
  return { name, typed_config: any(type, body) };
}

/** Where Envoy asks for the rest: this agent, on the stream it is connected by. */
export const ADS: JsonObject = alike({ ads: {}, resource_api_version: 'V3' });

/** A socket address. */
export function socketAddress(address: string, port: number): JsonObject {
  return { socket_address: { address, port_value: port } };
}

/** `10.0.0.0/8` or a bare address (all its bits) as a CidrRange. */
export function cidr(text: string): JsonObject {
  const [address = '', bits] = text.split('/');
  return {
    address_prefix: address,
    prefix_len: bits === undefined ? (address.includes(':') ? 128 : 32) : Number(bits),
  };
}

/** A percentage 0 to 100 with up to four decimals as FractionalPercent. */
export function fractionalPercent(value: number): JsonObject {
  return { numerator: Math.round(value * 10_000), denominator: 'MILLION' };
}

/** A Go duration (`1h30m`, `1.5s`, `200ms`), as Istio's fields have it, in proto3 JSON (`5400s`). Undefined for undefined or nonsense. */
export function duration(text: string | undefined): string | undefined {
  const nanos = durationNanos(text);
  if (nanos === undefined) return undefined;
  const seconds = nanos / 1_000_000_000n;
  const rest = nanos % 1_000_000_000n;
  return rest === 0n ? `${seconds}s` : `${seconds}.${String(rest).padStart(9, '0').replace(/0+$/, '')}s`;
}

const UNITS: Readonly<Record<string, number>> = { h: 3.6e12, m: 6e10, s: 1e9, ms: 1e6, us: 1e3, µs: 1e3, ns: 1 };

function durationNanos(text: string | undefined): bigint | undefined {
  if (text === '0') return 0n;
  if (text === undefined || !/^((\d+(\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns))+$/.test(text)) return undefined;
  let nanos = 0n;
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)/g)) {
    nanos += BigInt(Math.round(Number(number) * (UNITS[unit as string] as number)));
  }
  return nanos;
}

/** A resource with its origins sorted and unique. */
export function resource(type: ResourceType, name: string, body: JsonObject, origins: readonly string[]): XdsResource {
  return { type, name, body: { name, ...body }, origins: [...new Set(origins)].sort() };
}

/** Drops keys whose value is undefined, so that equal content is equal bytes whatever optional keys were written. */
export function compact(body: JsonObject): JsonObject {
  const kept: Record<string, Json> = {};
  for (const [key, value] of Object.entries(body)) if (value !== undefined) kept[key] = value;
  return kept;
}

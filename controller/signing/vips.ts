import { hash } from 'node:crypto';
import type { Vip } from '../../api/signed-config/desired-config.ts';

/** A released address is not given to another name before (DESIGN 7: runtimes cache names). */
export const VIP_HOLD_MS = 7 * 86_400_000;
/** Indices 1 to 65534 of 240.240.0.0/16. */
const INDICES = 65_534;

/** One name's place in the ranges; `releasedAt` (ms) since the name is not wanted any more. */
export interface VipRow {
  readonly index: number;
  readonly releasedAt?: number;
}

export interface Allocation {
  /** Rows that change; undefined: the row goes. */
  readonly changes: ReadonlyMap<string, VipRow | undefined>;
  /** Names for which no address was left. */
  readonly refused: readonly string[];
}

/**
 * The changes that give each wanted name its address. A name keeps its place as long as it is wanted, and gets it back within 7 days; a new
 * one starts at a hash of its name and takes the next free place, so nobody can take another's by choosing a name. Pure.
 */
export function allocateVips(rows: ReadonlyMap<string, VipRow>, wanted: ReadonlySet<string>, now: number): Allocation {
  const changes = new Map<string, VipRow | undefined>();
  const taken = new Set<number>();
  for (const [name, row] of rows) {
    const expired = row.releasedAt !== undefined && now - row.releasedAt >= VIP_HOLD_MS;
    if (wanted.has(name)) {
      if (row.releasedAt !== undefined) changes.set(name, { index: row.index });
      taken.add(row.index);
    } else if (expired) changes.set(name, undefined);
    else {
      if (row.releasedAt === undefined) changes.set(name, { index: row.index, releasedAt: now });
      taken.add(row.index);
    }
  }
  const refused: string[] = [];
  for (const name of [...wanted].filter((n) => !rows.has(n)).sort()) {
    if (taken.size >= INDICES) {
      refused.push(name);
      continue;
    }
    let index = (hash('sha256', name, 'buffer').readUInt32BE(0) % INDICES) + 1;
    while (taken.has(index)) index = (index % INDICES) + 1;
    taken.add(index);
    changes.set(name, { index });
  }
  return { changes, refused };
}

/** Addresses of a place: 240.240.0.0/16 and a ULA /48 of the trust domain's own (RFC 4193; the 40 bits are its hash). */
export function createVips(trustDomain: string): (index: number) => Vip {
  const id = hash('sha256', `hostmesh vip ${trustDomain}`, 'hex');
  const prefix = `fd${id.slice(0, 2)}:${group(id.slice(2, 6))}:${group(id.slice(6, 10))}`;
  return (index) => ({ v4: `240.240.${index >> 8}.${index & 255}`, v6: `${prefix}::${index.toString(16)}` });
}

function group(hex: string): string {
  return Number.parseInt(hex, 16).toString(16);
}

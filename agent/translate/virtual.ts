import { isWithin } from '../../api/cidr.ts';

/** By the list of ranges, which stays the same object from view to view: asked several times of each address. */
const KNOWN = new WeakMap<readonly string[], Map<string, boolean>>();
const MAX_KNOWN = 50_000;

/** Whether an address, or a whole CIDR, is of the ranges that virtual addresses come from. */
export function isVirtual(address: string, vipRanges: readonly string[]): boolean {
  let known = KNOWN.get(vipRanges);
  if (known === undefined || known.size > MAX_KNOWN) {
    known = new Map();
    KNOWN.set(vipRanges, known);
  }
  let answer = known.get(address);
  if (answer === undefined) {
    answer = isWithin(address, vipRanges);
    known.set(address, answer);
  }
  return answer;
}

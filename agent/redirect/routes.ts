import { MeshError } from '../../api/errors.ts';
import type { Exec } from '../host/exec.ts';
import { canonicalCidr, INBOUND_SOURCE } from './rules.ts';
import { type Family, familyOf } from './spec.ts';

/** Marks our routes in the kernel (rtnetlink protocol number, free for local use), so that clean-up needs no memory of them. */
export const ROUTE_PROTOCOL = 77;

const FLAG: Readonly<Record<Family, string>> = { v4: '-4', v6: '-6' };

/** Our routes and address on `lo` as the kernel has them. `address`: ::6 is there, whoever added it. */
export interface LoState {
  readonly routes: readonly string[];
  readonly address: boolean;
}

/** Reads what is ours on `lo`. Families that the kernel lacks answer nothing. */
export async function readLo(exec: Exec, families: readonly Family[]): Promise<LoState> {
  const routes = async (family: Family) => {
    const { stdout } = await exec('ip', [FLAG[family], 'route', 'show', 'dev', 'lo', 'proto', String(ROUTE_PROTOCOL)]);
    const targets = stdout.split('\n').map((line) => line.trim().split(/\s+/)[0] ?? '');
    return targets
      .filter((target) => target !== '')
      .map((target) => canonicalCidr(target === 'default' ? '::/0' : target, family));
  };
  const [lists, addresses] = await Promise.all([
    Promise.all(families.map(routes)),
    families.includes('v6') ? exec('ip', ['-6', '-o', 'addr', 'show', 'dev', 'lo']) : undefined,
  ]);
  return { routes: lists.flat(), address: / inet6 ::6\/128 /.test(addresses?.stdout.replace(/\s+/g, ' ') ?? '') };
}

/**
 * Brings `lo` to the wanted ranges and, for IPv6, the address ::6 with preferred_lft 0 (else the kernel picks it as source of VIP
 * connections and applications slip past the first rule). Returns what was changed, one line each. Throws REDIRECT_ROUTE.
 */
export async function setLo(
  exec: Exec,
  current: LoState,
  wanted: readonly string[],
  address: boolean,
): Promise<string[]> {
  const want = wanted.map((range) => canonicalCidr(range, familyOf(range)));
  const done: string[] = [];
  const ip = async (args: string[], tolerate: RegExp) => {
    const result = await exec('ip', args);
    if (result.code === 0) done.push(`ip ${args.join(' ')}`);
    else if (!tolerate.test(result.stderr))
      throw new MeshError('REDIRECT_ROUTE', `ip ${args.join(' ')}: ${result.stderr.trim()}`, { details: { args } });
  };
  const added = want.filter((range) => !current.routes.includes(range));
  const gone = current.routes.filter((range) => !want.includes(range));
  const route = (verb: 'add' | 'del', range: string) => [
    FLAG[familyOf(range)],
    'route',
    verb,
    range,
    'dev',
    'lo',
    'proto',
    String(ROUTE_PROTOCOL),
  ];
  const steps = [
    ...added.map((range) => ip(route('add', range), /File exists/)),
    ...gone.map((range) => ip(route('del', range), /No such process/)),
  ];
  if (address && !current.address)
    steps.push(ip(['-6', 'addr', 'add', INBOUND_SOURCE.v6, 'dev', 'lo', 'preferred_lft', '0'], /File exists/));
  const results = await Promise.allSettled(steps);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  return done;
}

/** Takes ::6 off `lo`; no error when it is gone. */
export async function dropAddress(exec: Exec): Promise<void> {
  const result = await exec('ip', ['-6', 'addr', 'del', INBOUND_SOURCE.v6, 'dev', 'lo']);
  if (result.code !== 0 && !/Cannot assign|not found/i.test(result.stderr))
    throw new MeshError('REDIRECT_ROUTE', `cannot remove ::6 from lo: ${result.stderr.trim()}`);
}

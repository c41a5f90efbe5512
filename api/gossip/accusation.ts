import { MeshError } from '../errors.ts';
import { LABEL } from '../identity/spiffe-id.ts';

/**
 * "My probes of TARGET fail." Signed by the accuser's host SVID (kind `accusation`). It only makes the others probe for themselves
 * (DESIGN 6): no accusation takes a host out of a table, so an old one replayed costs a probe and no more.
 */
export interface Accusation {
  readonly accuser: string;
  readonly target: string;
  /** The target's record that the accuser holds: an accusation of an older incarnation says nothing. */
  readonly epoch: number;
  readonly counter: number;
}

const MAX_BYTES = 512;

export function encodeAccusation(accusation: Accusation): Uint8Array {
  const { accuser, target, epoch, counter } = accusation;
  return Buffer.from(JSON.stringify([accuser, target, epoch, counter]));
}

/** Decodes an untrusted accusation. Throws ACCUSATION_INVALID. */
export function decodeAccusation(bytes: Uint8Array): Accusation {
  if (bytes.length > MAX_BYTES) throw invalid();
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    throw invalid();
  }
  if (!Array.isArray(value) || value.length !== 4) throw invalid();
  const [accuser, target, epoch, counter] = value as unknown[];
  if (typeof accuser !== 'string' || !LABEL.test(accuser)) throw invalid();
  if (typeof target !== 'string' || !LABEL.test(target)) throw invalid();
  if (!isVersion(epoch) || !isVersion(counter)) throw invalid();
  return { accuser, target, epoch, counter };
}

function isVersion(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function invalid(): MeshError {
  return new MeshError('ACCUSATION_INVALID', 'not an accusation of a host');
}

import { MeshError } from '../errors.ts';
import { LABEL } from '../identity/spiffe-id.ts';

/**
 * What an operator hands to a new host (DESIGN 3.4): where to go, the one anchor (sha256 of TUF root version 1) and a one-shot secret.
 * Text form: `mesh1.` and base64url of the JSON. It is a secret: read from stdin or a 0600 file, never from argv, never logged.
 */
export interface JoinString {
  /** Base URLs of the API for agents, `https://HOST:PORT`; 1 to 9. */
  readonly controllers: readonly string[];
  /** Lower-case hex. */
  readonly rootSha256: string;
  readonly token: string;
  readonly secret: string;
  readonly host: string;
  readonly workloadGroups: readonly string[];
  /** Gossip addresses to dial first, `IP:PORT`; may be empty. */
  readonly peers: readonly string[];
}

const PREFIX = 'mesh1.';
/** Characters; a longer one is refused by hosts, so none is made. */
export const MAX_JOIN_STRING = 8192;

export function formatJoinString(join: JoinString): string {
  return PREFIX + Buffer.from(JSON.stringify(join), 'utf8').toString('base64url');
}

/** Parses what an operator pasted; surrounding white space is dropped. Throws JOIN_STRING_INVALID, whose message never repeats the input. */
export function parseJoinString(text: string): JoinString {
  const trimmed = text.slice(0, MAX_JOIN_STRING + 64).trim();
  if (trimmed.length > MAX_JOIN_STRING) throw invalid('it is too long');
  if (!trimmed.startsWith(PREFIX)) throw invalid(`it does not start with ${PREFIX}`);
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(Buffer.from(trimmed.slice(PREFIX.length), 'base64url').toString('utf8'));
  } catch {
    throw invalid('it was cut or changed on the way');
  }
  if (typeof value !== 'object' || value === null) throw invalid('it was cut or changed on the way');
  const strings = (field: string, pattern: RegExp, min: number, max: number): string[] => {
    const list = value[field];
    if (!Array.isArray(list) || list.length < min || list.length > max) throw invalid(`field ${field}`);
    for (const item of list)
      if (typeof item !== 'string' || item.length > 300 || !pattern.test(item)) throw invalid(`field ${field}`);
    return list as string[];
  };
  const string = (field: string, pattern: RegExp): string => {
    const item = value[field];
    if (typeof item !== 'string' || !pattern.test(item)) throw invalid(`field ${field}`);
    return item;
  };
  return {
    controllers: strings('controllers', /^https:\/\/[^/?#\s@]+$/, 1, 9),
    rootSha256: string('rootSha256', /^[0-9a-f]{64}$/),
    token: string('token', /^[0-9a-f]{16}$/),
    secret: string('secret', /^[A-Za-z0-9_-]{22,64}$/),
    host: string('host', LABEL),
    workloadGroups: strings('workloadGroups', /^[-a-z0-9]{1,63}\/[-.a-z0-9]{1,253}$/, 0, 100),
    peers: strings('peers', /^\S{3,64}$/, 0, 16),
  };
}

function invalid(why: string): MeshError {
  return new MeshError(
    'JOIN_STRING_INVALID',
    `this is not a usable join string: ${why}; make a new one with \`meshctl token create\``,
  );
}

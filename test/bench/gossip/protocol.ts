/** What the runner of the gossip bench and the processes that hold members say to each other: JSON lines, commands in, answers out. */

/** One member to be. The last four are for our own rooms; memberlist has no identities. */
export interface MemberSpec {
  readonly name: string;
  readonly address: string;
  readonly chainPem: string;
  readonly privateKeyPem: string;
}

/** What is the same for all members of a run. */
export interface MeshSpec {
  readonly trustDomain: string;
  readonly intermediatePem: string;
  /** `[name, address]` of every host that config grants. */
  readonly granted: readonly (readonly [string, string])[];
  /** Addresses of the first members, known to all. */
  readonly seeds: readonly string[];
  readonly port: number;
  readonly dir: string;
}

export type Command =
  | { readonly op: 'start'; readonly mesh: MeshSpec; readonly members: readonly MemberSpec[] }
  /** Changes what the member says of itself to this number. */
  | { readonly op: 'publish'; readonly names: readonly string[]; readonly value: number }
  /** Ends without a word. */
  | { readonly op: 'stop'; readonly names: readonly string[] }
  /** Starts again a member that was stopped. */
  | { readonly op: 'again'; readonly names: readonly string[] }
  /** Forgets arrivals and deaths. */
  | { readonly op: 'reset' }
  | { readonly op: 'report' };

/** Times are milliseconds since the epoch with a fraction. */
export interface Report {
  /** By member: how many it believes alive, itself left out, and how many records it holds. */
  readonly members: Readonly<Record<string, { readonly alive: number; readonly known: number }>>;
  /** When members published: `[name, value, at]`. */
  readonly published: readonly (readonly [string, number, number])[];
  /** When an observer learnt of a value: `[observer, name, value, at]`. */
  readonly arrivals: readonly (readonly [string, string, number, number])[];
  /** When an observer took a member for dead: `[observer, name, at]`. */
  readonly deaths: readonly (readonly [string, string, number])[];
  readonly rssMb: number;
}

export const now = (): number => performance.timeOrigin + performance.now();

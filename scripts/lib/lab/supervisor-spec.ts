import type { RootCommand, UnitSpec } from './unit.ts';

/** What a node's supervisor is told, as JSON in a 0600 file; made by programs.ts. */
export interface SupervisorSpec {
  readonly name: string;
  /** Control socket. */
  readonly control: string;
  /** UDP and TCP sockets that the supervisor holds for its units, so that queries wait while a unit restarts: fds 3... in this order. */
  readonly sockets: readonly HeldSocket[];
  /** In the order of their start; stopped in reverse. */
  readonly units: Readonly<Record<string, UnitSpec>>;
  /** Run as root whenever `path` is replaced (a systemd path unit and its oneshot). */
  readonly oneshot?: RootCommand & { readonly path: string };
  /** Orderly stop of unit `agent`: POST to this unix socket first, then `clean`. */
  readonly leave?: { readonly socket: string; readonly path: string; readonly clean: RootCommand };
  /** Emptied at boot, as a tmpfs is. */
  readonly runDir?: string;
}

export interface HeldSocket {
  readonly type: 'udp' | 'tcp';
  readonly address: string;
  readonly port: number;
  /** Its name in LISTEN_FDNAMES. */
  readonly name: string;
}

/** One order a connection, one JSON line each way. */
export type Order =
  | { readonly do: 'start' | 'stop'; readonly unit: string }
  | { readonly do: 'kill'; readonly unit: string; readonly stayDown: boolean }
  /** SIGKILL to every unit, then the supervisor ends. */
  | { readonly do: 'end' }
  | { readonly do: 'status' };

export interface Answer {
  readonly error?: string;
  readonly units?: Readonly<Record<string, { state: string; pid?: number; starts: number; lastExit?: string }>>;
}

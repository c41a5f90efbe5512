/** What a command may touch of the world: tests pass their own. */
export interface CliContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Home folder; the config file is `.config/mesh/config.yaml` below it. */
  readonly home: string;
  /** Results, and nothing else, go here. */
  out(text: string): void;
  /** Warnings, errors, progress. */
  err(text: string): void;
  /** All of standard input, at most `maxBytes`. */
  readStdin(maxBytes: number): Promise<string>;
  /** ms since the epoch, for ages. */
  now(): number;
}

/** Exit codes of meshctl. */
export const EXIT = { ok: 0, failed: 1, usage: 64 } as const;

/** Options that every command has. */
export interface GlobalOptions {
  readonly api?: string;
  readonly caFile?: string;
  readonly tokenFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  /** Admin socket of the agent on this host. */
  readonly socket?: string;
}

/** A command: options are commander's, checked by it; returns the exit code. */
export type Command<Options = object> = (
  context: CliContext,
  options: GlobalOptions & Options,
  args: readonly string[],
) => Promise<number>;

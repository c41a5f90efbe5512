/** Base of every error this project throws on purpose. Branch on `code`, never on the text. `details` is data for logs and Status objects: no secrets. */
export class MeshError extends Error {
  readonly code: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: string, message: string, options: { details?: Record<string, unknown>; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'MeshError';
    this.code = code;
    this.details = options.details ?? {};
  }
}

/** True when `error` is a MeshError carrying `code`. */
export function hasCode(error: unknown, code: string): error is MeshError {
  return error instanceof MeshError && error.code === code;
}

/** One line naming the cause chain, outermost first: for status lines and logs. */
export function errorLine(error: unknown): string {
  const parts: string[] = [];
  for (
    let e: unknown = error;
    e !== undefined && e !== null && parts.length < 5;
    e = e instanceof Error ? e.cause : undefined
  ) {
    parts.push(e instanceof Error ? e.message : String(e));
  }
  return parts.join(': ').replaceAll('\n', ' ');
}

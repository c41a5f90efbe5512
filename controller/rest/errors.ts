import { MeshError } from '../../api/errors.ts';
import {
  badRequest,
  failure,
  gone,
  internalError,
  type Status,
  serviceUnavailable,
  tooLarge,
} from '../../api/http/status-errors.ts';

/** A refusal whose answer is already known. Code `REST_REFUSED`; branch on `status.reason`. */
export class StatusError extends MeshError {
  readonly status: Status;

  constructor(status: Status) {
    super('REST_REFUSED', status.message ?? status.reason ?? 'refused');
    this.status = status;
  }
}

/** Throws `status`. */
export function refuse(status: Status): never {
  throw new StatusError(status);
}

/** Codes of other rooms that are no fault of ours, with the answer that each gets. */
const BY_CODE: Readonly<Record<string, (error: MeshError) => Status>> = {
  STORE_COMPACTED: () => gone('too old resource version: the history no longer reaches back that far'),
  STORE_REVISION_FUTURE: () => gone('the resource version is above the store’s own: list again'),
  STORE_FULL: (error) => serviceUnavailable(error.message),
  STORE_LOCKED: (error) => serviceUnavailable(error.message),
  STORE_FAILED: (error) => serviceUnavailable(error.message),
  STORE_CLOSED: () => serviceUnavailable('the controller is stopping'),
  HOST_SILENT: (error) => serviceUnavailable(error.message),
  HOST_FAILED: (error) => serviceUnavailable(error.message),
  HOST_BUSY: (error) => failure('TooManyRequests', error.message, { retryAfterSeconds: 1 }),
  QUERY_INVALID: (error) => badRequest(error.message),
  AUDIT_UNAVAILABLE: (error) => serviceUnavailable(error.message),
  TOKEN_INVALID: (error) => {
    const field = String(error.details.field ?? 'spec');
    const causes = [{ reason: 'FieldValueInvalid', message: error.message, field }];
    return failure('Invalid', error.message, { kind: 'JoinToken', group: 'hostmesh.io', causes });
  },
};

/** The Status for whatever was thrown. `internal` is true when it is a fault of ours, to be logged with its cause. */
export function statusOf(error: unknown): { readonly status: Status; readonly internal: boolean } {
  if (error instanceof StatusError) return { status: error.status, internal: false };
  if (error instanceof MeshError) {
    const known = BY_CODE[error.code];
    if (known !== undefined) return { status: known(error), internal: false };
  }
  const http = error as { statusCode?: unknown; code?: unknown; message?: unknown };
  if (http?.code === 'FST_ERR_CTP_BODY_TOO_LARGE') return { status: tooLarge(0), internal: false };
  if (typeof http?.statusCode === 'number' && http.statusCode >= 400 && http.statusCode < 500) {
    return { status: badRequest(String(http.message ?? 'bad request').slice(0, 300)), internal: false };
  }
  return { status: internalError(), internal: true };
}

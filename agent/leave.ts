/**
 * `mesh-agent leave`: asks the running agent of this host to leave the mesh in order. In: RUN_DIR/admin.sock. Out: nothing but an error. Must
 * never start, stop or signal anything: what is stopped after it is the caller's business (packaging/bin/agent-stop).
 */
import { request } from 'node:http';
import { join } from 'node:path';
import { errorLine, MeshError } from '../api/errors.ts';
import { ADMIN_API } from '../api/http/admin-api.ts';

/** An agent withdraws its endpoints and drains its proxy within this; past it, whoever stops it goes on. */
export const LEAVE_WITHIN_MS = 15_000;
const MAX_ANSWER_BYTES = 4096;

/** Resolves when the agent has withdrawn its endpoints and drained. Throws LEAVE_UNANSWERED (no agent, no answer in time) or LEAVE_REFUSED. */
export async function leaveMesh(runDir: string, withinMs = LEAVE_WITHIN_MS): Promise<void> {
  const socketPath = join(runDir, 'admin.sock');
  const { status, text } = await post(socketPath, withinMs);
  if (status !== 204) throw new MeshError('LEAVE_REFUSED', `mesh-agent answered ${status}: ${text}`);
}

function post(socketPath: string, withinMs: number): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) =>
      reject(
        new MeshError('LEAVE_UNANSWERED', `no mesh-agent answered on ${socketPath}: ${errorLine(cause)}`, { cause }),
      );
    const asked = request(
      { socketPath, path: ADMIN_API.leave, method: 'POST', agent: false, signal: AbortSignal.timeout(withinMs) },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          if (text.length < MAX_ANSWER_BYTES) text += part;
        });
        response.once('end', () =>
          resolve({ status: response.statusCode ?? 0, text: text.slice(0, MAX_ANSWER_BYTES) }),
        );
        response.once('error', fail);
      },
    );
    asked.once('error', fail);
    asked.end();
  });
}

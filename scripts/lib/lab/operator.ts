/**
 * The lab's operator: pushes WorkloadGroups and makes join strings over the controller's REST API, from the machine itself, as any client
 * would. In: objects. Out: the controller's answers. Must never: print a token or a join string.
 */
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { MeshError } from '../../../api/errors.ts';
import { type JoinToken, OPERATOR_API } from '../../../api/http/operator-api.ts';
import type { MeshObject } from '../../../api/resources/object.ts';
import { type Node, PORTS } from './plan.ts';
import { OPERATOR } from './programs.ts';

export interface Operator {
  apply(objects: readonly MeshObject[]): Promise<void>;
  createJoinString(host: string, workloadGroups: readonly string[], peers: readonly string[]): Promise<string>;
}

/** An operator over the controller on `node`; waits until it answers. Throws LAB_TIMEOUT. */
export async function createOperator(node: Node, timeoutMs: number): Promise<Operator> {
  const token = (await readFile(OPERATOR.token, 'utf8')).trim();
  const ca = await readFile(OPERATOR.caFile, 'utf8');
  const call = (method: string, path: string, body?: unknown) =>
    send({ host: node.ip4, token, ca }, method, path, body);
  const end = performance.now() + timeoutMs;
  for (;;) {
    try {
      await call('GET', OPERATOR_API.status);
      break;
    } catch (error) {
      if (performance.now() > end)
        throw new MeshError('LAB_TIMEOUT', `the controller does not answer on https://${node.ip4}:${PORTS.rest}`, {
          cause: error,
        });
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  return {
    async apply(objects) {
      if (objects.length > 0) await call('POST', OPERATOR_API.apply, { objects });
    },
    async createJoinString(host, workloadGroups, peers) {
      const body = { apiVersion: OPERATOR_API.groupVersion, kind: 'JoinToken', spec: { host, workloadGroups, peers } };
      const made = (await call('POST', OPERATOR_API.joinTokens, body)) as JoinToken;
      if (made.status === undefined) throw new MeshError('LAB_TOKEN', `the controller made no join string for ${host}`);
      return made.status.joinString;
    },
  };
}

function send(
  to: { host: string; token: string; ca: string },
  method: string,
  path: string,
  body?: unknown,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${to.token}`,
      'content-type': 'application/json',
      accept: 'application/json',
    };
    const asked = request(
      { host: to.host, port: PORTS.rest, method, path, headers, ca: to.ca, timeout: 5000, agent: false },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.once('end', () => {
          const status = response.statusCode ?? 0;
          if (status >= 200 && status < 300) resolve(text === '' ? undefined : JSON.parse(text));
          else reject(new MeshError('LAB_REST', `${method} ${path} answered ${status}: ${text.slice(0, 1000)}`));
        });
      },
    );
    asked.once('timeout', () => asked.destroy(new Error('no answer within 5 s')));
    asked.once('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

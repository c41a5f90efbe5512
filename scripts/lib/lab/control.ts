import { connect } from 'node:net';
import { MeshError } from '../../../api/errors.ts';
import { pathsOf } from './paths.ts';
import type { Answer, Order } from './supervisor-spec.ts';

const TIMEOUT_MS = 40_000;

/** Gives a node's supervisor one order and waits until it is carried out. Throws LAB_SUPERVISOR when it does not answer, LAB_REFUSED with its reason. */
export function order(node: string, what: Order): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket = connect(pathsOf(node).control);
    let text = '';
    const fail = (why: string, cause?: unknown) => {
      socket.destroy();
      reject(new MeshError('LAB_SUPERVISOR', `the supervisor of ${node} ${why}`, { cause }));
    };
    socket.setTimeout(TIMEOUT_MS, () => fail('does not answer'));
    socket.once('error', (error) => fail('cannot be reached', error));
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    socket.once('end', () => {
      if (text === '') return fail('closed without an answer');
      const answer = JSON.parse(text) as Answer;
      if (answer.error === undefined) resolve(answer);
      else reject(new MeshError('LAB_REFUSED', answer.error));
    });
    socket.write(`${JSON.stringify(what)}\n`);
  });
}

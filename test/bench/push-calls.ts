/** Calls between a process and its child, over Node's channel between them. Values are JSON; bytes travel as base64. */
import type { ChildProcess } from 'node:child_process';

type Handler = (...args: never[]) => unknown;

interface Message {
  readonly id: number;
  /** A call has a method, an answer has not. */
  readonly method?: string;
  readonly args?: readonly unknown[];
  readonly value?: unknown;
  readonly error?: string;
}

/** One end of the channel. */
export interface Calls {
  /** Rejects with the other end's error, or when it has gone. */
  call<T = unknown>(method: string, ...args: readonly unknown[]): Promise<T>;
  on(method: string, handler: Handler): void;
}

/** `end`: the child as its parent has it, or `process` in the child. */
export function createCalls(end: ChildProcess | NodeJS.Process): Calls {
  const handlers = new Map<string, Handler>();
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  let last = 0;
  const send = (message: Message) => void (end.connected && end.send?.(message));
  const answer = async ({ id, method = '', args = [] }: Message) => {
    try {
      const handler = handlers.get(method);
      if (handler === undefined) throw new Error(`no ${method} here`);
      send({ id, value: await handler(...(args as never[])) });
    } catch (error) {
      send({ id, error: String((error as Error)?.stack ?? error) });
    }
  };
  (end as NodeJS.EventEmitter).on('message', (message: Message) => {
    if (message.method !== undefined) return void answer(message);
    const one = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.error === undefined) one?.resolve(message.value as never);
    else one?.reject(new Error(message.error));
  });
  (end as NodeJS.EventEmitter).once('disconnect', () => {
    for (const { reject } of waiting.values()) reject(new Error('the other process has gone'));
  });
  return {
    call: (method, ...args) =>
      new Promise((resolve, reject) => {
        if (!end.connected) return reject(new Error('the other process has gone'));
        const id = ++last;
        waiting.set(id, { resolve, reject });
        send({ id, method, args });
      }),
    on: (method, handler) => void handlers.set(method, handler),
  };
}

export const encoded = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
export const decoded = (text: string): Buffer => Buffer.from(text, 'base64');

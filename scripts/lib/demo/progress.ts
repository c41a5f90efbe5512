/** How a step is shown. In: a step. Out: a line while it runs (on a terminal), one when it is done, its notes; and the result. */
import { errorLine } from '../../../api/errors.ts';
import type { Step, StepResult } from './story.ts';
import type { World } from './world.ts';

const REFRESH_MS = 200;
const MAX_NOTE = 240;

/** Runs a step and shows it; never rejects. */
export async function tell(number: number, total: number, step: Step, world: World): Promise<StepResult> {
  const head = `${String(number).padStart(2)}/${total} ${step.title}`;
  const begin = performance.now();
  const stopTicking = tick(head, begin);
  const notes: string[] = [];
  let error: string | undefined;
  try {
    await step.run(world, (note) => notes.push(note.replace(/\s+/g, ' ').trim()));
  } catch (caught) {
    error = errorLine(caught);
  }
  stopTicking();
  const ms = Math.round(performance.now() - begin);
  const lines = [
    `${error === undefined ? 'ok  ' : world.signal.aborted ? 'left' : 'FAIL'} ${head} (${(ms / 1000).toFixed(1)} s)`,
    ...notes.map((note) => `       ${note.length > MAX_NOTE ? `${note.slice(0, MAX_NOTE)}...` : note}`),
    ...(error === undefined ? [] : [`       ${error}`]),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
  const { part, name, title } = step;
  return { part, step: name, title, ok: error === undefined, ms, notes, ...(error === undefined ? {} : { error }) };
}

/** On a terminal: the running step with its seconds. Returns: ends it and clears the line. */
function tick(head: string, begin: number): () => void {
  if (process.stdout.isTTY !== true) return () => {};
  const width = Math.max(20, (process.stdout.columns || 80) - 1);
  const show = () => {
    const seconds = ((performance.now() - begin) / 1000).toFixed(0);
    process.stdout.write(`\r\x1b[K${`...  ${head}`.slice(0, width - 8)} ${seconds} s`);
  };
  show();
  const timer = setInterval(show, REFRESH_MS);
  return () => {
    clearInterval(timer);
    process.stdout.write('\r\x1b[K');
  };
}

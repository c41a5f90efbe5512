import { closeSync, openSync, readSync } from 'node:fs';
import { errorLine, hasCode, MeshError } from '../api/errors.ts';
import { MAX_CONFIG_BYTES } from './config-file.ts';

/** Exit codes of our daemons (sysexits.h). `startAnew`: no success, or systemd would run ExecStop=; the unit's Restart= does the rest. */
export const EXIT = { ok: 0, failed: 1, usage: 64, startAnew: 75, config: 78 } as const;

/** What a daemon's main.ts says on its way out; each returns the exit code that goes with it. */
export interface Program {
  say(text: string): number;
  /** One line on stderr, after the program's name. */
  fail(why: string, code: number): number;
  /** Names the wrong word, then shows the usage. */
  wrongUsage(why: string): number;
  /** `parseArgs` refused; its further sentences are about quoting that nobody meant. */
  wrongArgs(error: unknown): number;
  /** Each fault of a config file on its own line, anything else in one; 78 for what no restart mends. */
  failed(error: unknown): number;
}

/** `configCodes`: codes of errors that no restart mends. */
export function createProgram(name: string, usage: string, configCodes: ReadonlySet<string>): Program {
  const program: Program = {
    say(text) {
      process.stdout.write(text);
      return EXIT.ok;
    },
    fail(why, code) {
      process.stderr.write(`${name}: ${why}\n`);
      return code;
    },
    wrongUsage: (why) => program.fail(`${why}\n\n${usage.trimEnd()}`, EXIT.usage),
    wrongArgs: (error) => program.wrongUsage(errorLine(error).replace(/\. .*$/, '')),
    failed(error) {
      const code = error instanceof MeshError && configCodes.has(error.code) ? EXIT.config : EXIT.failed;
      return program.fail(hasCode(error, 'CONFIG_INVALID') ? error.message : errorLine(error), code);
    },
  };
  return program;
}

/** Text of a config file, bounded also when the file never ends. Throws CONFIG_INVALID when it cannot be read, CONFIG_TOO_LARGE. */
export function readConfigText(path: string): string {
  const buffer = Buffer.alloc(MAX_CONFIG_BYTES + 1);
  let length = 0;
  let fd: number | undefined;
  try {
    fd = openSync(path, 'r');
    for (let read = -1; read !== 0 && length < buffer.length; length += read)
      read = readSync(fd, buffer, length, buffer.length - length, null);
  } catch (cause) {
    const why =
      (cause as NodeJS.ErrnoException).code === 'ENOENT'
        ? 'there is no such file; write it first'
        : `cannot read it: ${errorLine(cause)}`;
    throw new MeshError('CONFIG_INVALID', `${path}: ${why}`);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
  if (length > MAX_CONFIG_BYTES)
    throw new MeshError('CONFIG_TOO_LARGE', `${path}: larger than ${MAX_CONFIG_BYTES} bytes`);
  return buffer.toString('utf8', 0, length);
}

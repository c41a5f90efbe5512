#!/usr/bin/env node
/** mesh-controller: command line and exit codes (0 done, 1 failed, 64 usage, 78 controller.yaml is invalid or there is no mesh here). */
import { closeSync, openSync, readSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { errorLine, hasCode, MeshError } from '../api/errors.ts';
import { VERSION } from '../api/version.ts';
import { systemClock } from '../runtime/clock.ts';
import { untilSignal } from '../runtime/lifecycle.ts';
import { createLogger, type Logger, type LogLevel } from '../runtime/log.ts';
import { createSystemdNotifier } from '../runtime/systemd.ts';
import { type ControllerConfig, parseControllerConfig, restartKeys } from './config.ts';
import { startController } from './controller.ts';
import { initMesh } from './init.ts';
import { becomeStateOwner } from './state-owner.ts';

const USAGE = `usage: mesh-controller COMMAND [--config FILE]

  init           make a new mesh: keys, CA, the first admin's token
    --root-keys N --root-threshold K   the TUF root's keys and how many must sign; default 1 and 1
  run            serve operators and hosts, in the foreground (systemd: mesh-controller.service)
  check-config   say whether controller.yaml is valid, change nothing

  --config FILE  default /etc/mesh/controller.yaml
  --check-config, --version, --help
`;
const DEFAULT_CONFIG = '/etc/mesh/controller.yaml';
/** One byte more than the parser takes: it says what is wrong. */
const MAX_CONFIG_BYTES = 256 * 1024 + 1;
const EXIT = { ok: 0, failed: 1, usage: 64, config: 78 } as const;
/** What no restart mends: the unit must not try again and again. */
const CONFIG_CODES = new Set([
  'CONFIG_INVALID',
  'CONFIG_TOO_LARGE',
  'NOT_INITIALISED',
  'STATE_BROKEN',
  'STATE_UNREADABLE',
  'STORE_MISSING',
  'STORE_BROKEN',
  'STORE_VERSION',
  'CA_STATE_LOST',
  'SIGNING_KEY_INVALID',
  'SIGNING_NOT_INITIALISED',
  'AUDIT_BROKEN',
]);

async function main(argv: readonly string[]): Promise<number> {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(argv);
  } catch (error) {
    return wrongUsage(firstSentence(error));
  }
  const { values, positionals } = parsed;
  if (values.help) return say(USAGE);
  if (values.version) return say(`mesh-controller ${VERSION}\n`);
  const command = values['check-config'] ? 'check-config' : positionals[0];
  if (positionals.length > 1) return wrongUsage(`unexpected ${positionals[1]}`);
  const path = values.config ?? DEFAULT_CONFIG;
  const quorum = [values['root-keys'], values['root-threshold']];
  if (quorum.some((value) => value !== undefined) && command !== 'init')
    return fail('mesh-controller: --root-keys and --root-threshold go with init\n', EXIT.usage);
  if (quorum.some((value) => value !== undefined && !/^[1-9]$/.test(value)))
    return fail('mesh-controller: --root-keys and --root-threshold are numbers from 1 to 9\n', EXIT.usage);
  process.umask(0o077);
  try {
    if (command === 'check-config') {
      readConfig(path);
      return say(`${path} is valid\n`);
    }
    if (command === 'init')
      return await init(
        readConfig(path),
        quorum.map((value) => Number(value ?? 1)),
      );
    if (command === 'run') return await run(readConfig(path), path);
  } catch (error) {
    const code = error instanceof MeshError && CONFIG_CODES.has(error.code) ? EXIT.config : EXIT.failed;
    return fail(`mesh-controller: ${linesOf(error)}\n`, code);
  }
  return wrongUsage(command === undefined ? 'a command is missing' : `unknown command ${command}`);
}

function wrongUsage(why: string): number {
  return fail(`mesh-controller: ${why}\n\n${USAGE}`, EXIT.usage);
}

/** What parseArgs says; its further sentences are about quoting that nobody meant. */
function firstSentence(error: unknown): string {
  return errorLine(error).replace(/\. .*$/, '');
}

function parse(argv: readonly string[]) {
  return parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      config: { type: 'string' },
      'root-keys': { type: 'string' },
      'root-threshold': { type: 'string' },
      'check-config': { type: 'boolean' },
      version: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
}

function readConfig(path: string): ControllerConfig {
  return parseControllerConfig(readBounded(path), path);
}

/** At most MAX_CONFIG_BYTES of a file, also of one that never ends. */
function readBounded(path: string): string {
  const buffer = Buffer.alloc(MAX_CONFIG_BYTES);
  let fd: number | undefined;
  try {
    fd = openSync(path, 'r');
    let length = 0;
    for (let read = -1; read !== 0 && length < buffer.length; length += read)
      read = readSync(fd, buffer, length, buffer.length - length, null);
    return buffer.toString('utf8', 0, length);
  } catch (cause) {
    const why =
      (cause as NodeJS.ErrnoException).code === 'ENOENT'
        ? 'there is no such file; write it first'
        : `cannot read it: ${errorLine(cause)}`;
    throw new MeshError('CONFIG_INVALID', `${path}: ${why}`);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Each fault of controller.yaml on its own line; anything else in one. */
function linesOf(error: unknown): string {
  return hasCode(error, 'CONFIG_INVALID') ? error.message : errorLine(error);
}

async function init(config: ControllerConfig, [keys = 1, threshold = 1]: readonly number[]): Promise<number> {
  becomeStateOwner(config.stateDir);
  process.umask(0o077);
  const made = await initMesh({ config, root: { keys, threshold }, clock: systemClock });
  return say(`made the mesh ${config.trustDomain}, replica ${config.replica}
  root v1 sha256       ${made.rootSha256}
  admin's token        ${made.paths.adminToken}
  CA for clients       ${made.paths.caFile}
  root keys            ${made.rootKeyFiles.join(', ')}
Take the root keys and a copy of the admin's token away from this machine, then: systemctl enable --now mesh-controller
`);
}

async function run(config: ControllerConfig, path: string): Promise<number> {
  const log = createLogger({ program: 'mesh-controller', level: config.logLevel });
  const systemd = createSystemdNotifier(log);
  const signalled = untilSignal();
  log.info('starting', { version: VERSION, config });
  process.on('SIGHUP', () => reload(config, path, log));
  const stopWatchdog = systemd.startWatchdog();
  const controller = await startController(config, { clock: systemClock, random: Math.random, log });
  log.info('ready', { status: controller.statusLine(), ...controller.ports });
  await systemd.ready(controller.statusLine());
  const stopStatus = systemd.keepStatus(() => controller.statusLine());
  log.info('stopping', { signal: await signalled });
  stopStatus();
  await systemd.stopping();
  stopWatchdog();
  await controller.stop();
  return EXIT.ok;
}

/** SIGHUP: what can change in a running controller changes, the rest is named. */
function reload(running: ControllerConfig, path: string, log: Logger & { setLevel(level: LogLevel): void }): void {
  let next: ControllerConfig;
  try {
    next = readConfig(path);
  } catch (error) {
    log.error('controller.yaml is refused; the running config stays', { error });
    return;
  }
  log.setLevel(next.logLevel);
  const waiting = restartKeys(running, next);
  if (waiting.length > 0) log.warn('some of controller.yaml is used from the next restart on', { keys: waiting });
  log.info('controller.yaml was read again', { file: path, log_level: next.logLevel });
}

function say(text: string): number {
  process.stdout.write(text);
  return EXIT.ok;
}

function fail(text: string, code: number): number {
  process.stderr.write(text);
  return code;
}

process.exitCode = await main(process.argv.slice(2));
process.exit();

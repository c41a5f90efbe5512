#!/usr/bin/env node
/** mesh-controller: command line and exit codes (0 done, 1 failed, 64 usage, 78 controller.yaml is invalid or there is no mesh here). */
import { parseArgs } from 'node:util';
import { VERSION } from '../api/version.ts';
import { systemClock } from '../runtime/clock.ts';
import { untilSignal } from '../runtime/lifecycle.ts';
import { createLogger, type Logger, type LogLevel } from '../runtime/log.ts';
import { createProgram, EXIT, readConfigText } from '../runtime/program.ts';
import { createSystemdNotifier } from '../runtime/systemd.ts';
import { type ControllerConfig, parseControllerConfig, restartKeys } from './config.ts';
import { startController } from './controller.ts';
import { initMesh } from './init.ts';
import { becomeStateOwner } from './state-owner.ts';

const USAGE = `usage: mesh-controller COMMAND [--config FILE]

Commands:
  init           make a new mesh: keys, CA, the first admin's token
    --root-keys N --root-threshold K   the TUF root's keys and how many must sign; default 1 and 1
  run            serve operators and hosts, in the foreground (systemd: mesh-controller.service)
  check-config   say whether controller.yaml is valid, change nothing

Options:
  --config FILE  default /etc/mesh/controller.yaml
  --check-config, --version, --help
`;
const DEFAULT_CONFIG = '/etc/mesh/controller.yaml';
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
  'SECRET_KEY_LOST',
  'SIGNING_KEY_INVALID',
  'SIGNING_NOT_INITIALISED',
  'AUDIT_BROKEN',
]);

const { say, fail, failed, wrongUsage, wrongArgs } = createProgram('mesh-controller', USAGE, CONFIG_CODES);

async function main(argv: readonly string[]): Promise<number> {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(argv);
  } catch (error) {
    return wrongArgs(error);
  }
  const { values, positionals } = parsed;
  if (values.help) return say(USAGE);
  if (values.version) return say(`mesh-controller ${VERSION}\n`);
  const command = values['check-config'] ? 'check-config' : positionals[0];
  if (positionals.length > 1) return wrongUsage(`unexpected ${positionals[1]}`);
  const path = values.config ?? DEFAULT_CONFIG;
  const quorum = [values['root-keys'], values['root-threshold']];
  if (quorum.some((value) => value !== undefined) && command !== 'init')
    return fail('--root-keys and --root-threshold go with init', EXIT.usage);
  if (quorum.some((value) => value !== undefined && !/^[1-9]$/.test(value)))
    return fail('--root-keys and --root-threshold are numbers from 1 to 9', EXIT.usage);
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
    return failed(error);
  }
  return wrongUsage(command === undefined ? 'a command is missing' : `unknown command ${command}`);
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
  return parseControllerConfig(readConfigText(path), path);
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

process.exitCode = await main(process.argv.slice(2));
process.exit();

#!/usr/bin/env node
/** mesh-controller: command line and exit codes (0 done, 1 failed, 64 usage, 78 controller.yaml is invalid or there is no mesh here). */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { errorLine, MeshError } from '../api/errors.ts';
import { VERSION } from '../api/version.ts';
import { systemClock } from '../runtime/clock.ts';
import { untilSignal } from '../runtime/lifecycle.ts';
import { createLogger } from '../runtime/log.ts';
import { createSystemdNotifier } from '../runtime/systemd.ts';
import { type ControllerConfig, parseControllerConfig } from './config.ts';
import { startController } from './controller.ts';
import { initMesh } from './init.ts';

const USAGE = `usage: mesh-controller COMMAND [--config FILE]

  init           make a new mesh: keys, CA, the first admin's token
    --root-keys N --root-threshold K   the TUF root's keys and how many must sign; default 1 and 1
  run            serve operators and hosts, in the foreground (systemd: mesh-controller.service)
  check-config   say whether controller.yaml is valid, change nothing

  --config FILE  default /etc/mesh/controller.yaml
  --check-config, --version, --help
`;
const DEFAULT_CONFIG = '/etc/mesh/controller.yaml';
const MAX_CONFIG_BYTES = 1 << 20;
const EXIT = { ok: 0, failed: 1, usage: 64, config: 78 } as const;
/** What no restart mends: the unit must not try again and again. */
const CONFIG_CODES = new Set([
  'CONFIG_INVALID',
  'NOT_INITIALISED',
  'STORE_MISSING',
  'CA_STATE_LOST',
  'SIGNING_KEY_INVALID',
]);

async function main(argv: readonly string[]): Promise<number> {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(argv);
  } catch (error) {
    return fail(`mesh-controller: ${errorLine(error)}\n\n${USAGE}`, EXIT.usage);
  }
  const { values, positionals } = parsed;
  if (values.help) return say(USAGE);
  if (values.version) return say(`mesh-controller ${VERSION}\n`);
  const command = values['check-config'] ? 'check-config' : positionals[0];
  if (positionals.length > 1) return fail(`mesh-controller: unexpected ${positionals[1]}\n\n${USAGE}`, EXIT.usage);
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
    return fail(`mesh-controller: ${errorLine(error)}\n`, code);
  }
  return fail(USAGE, EXIT.usage);
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
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new MeshError('CONFIG_INVALID', `cannot read it: ${errorLine(cause)}`);
  }
  if (text.length > MAX_CONFIG_BYTES)
    throw new MeshError('CONFIG_INVALID', `${path} is larger than ${MAX_CONFIG_BYTES} bytes`);
  return parseControllerConfig(text, path);
}

async function init(config: ControllerConfig, [keys = 1, threshold = 1]: readonly number[]): Promise<number> {
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
  process.on('SIGHUP', () => {
    try {
      log.setLevel(readConfig(path).logLevel);
      log.warn('controller.yaml is valid; all but logLevel is used from the next restart on', { file: path });
    } catch (error) {
      log.error('controller.yaml is refused; the running config stays', { error });
    }
  });
  const stopWatchdog = systemd.startWatchdog();
  const controller = await startController(config, { clock: systemClock, random: Math.random, log });
  log.info('ready', { generation: controller.generation, ...controller.ports });
  await systemd.ready(`serving generation ${controller.generation}`);
  log.info('stopping', { signal: await signalled });
  await systemd.stopping();
  stopWatchdog();
  await controller.stop();
  return EXIT.ok;
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

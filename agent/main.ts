#!/usr/bin/env node
/** mesh-agent: command line and exit codes (0 done, 1 failed, 64 usage, 75 start me anew, 78 agent.yaml is invalid or the host has not joined). */
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { hasCode, MeshError } from '../api/errors.ts';
import type { AgentStatus } from '../api/http/admin-api.ts';
import { VERSION } from '../api/version.ts';
import { systemClock } from '../runtime/clock.ts';
import { untilSignal } from '../runtime/lifecycle.ts';
import type { Logger, LogLevel } from '../runtime/log.ts';
import { createProgram, EXIT, readConfigText } from '../runtime/program.ts';
import { type AgentConfig, parseAgentConfig } from './config.ts';
import type { Agent } from './run.ts';

const USAGE = `usage: mesh-agent COMMAND [--config FILE]

Commands:
  run            be this host's agent, in the foreground (systemd: mesh-agent.service)
  join           join a mesh; the join string comes on stdin, or with --join-file FILE (mode 0600)
  leave          have the running agent withdraw its endpoints and drain; before a stop
  check-config   say whether agent.yaml is valid, change nothing
  redirect VERB  the rules in the kernel: plan, check, apply, clean, ... (redirect --help)

Options:
  --config FILE  default /etc/mesh/agent.yaml
  --check-config, --version, --help
`;
const DEFAULT_CONFIG = '/etc/mesh/agent.yaml';
/** A unit whose main process ends before its ExecReload= has ended counts as one whose reload failed (systemd 252). */
const RELOADED_MS = 300;
const HOW_TO_JOIN =
  'run `mesh-agent join` as root with the join string that `meshctl token create` prints on its standard input';
/** What no restart mends: the unit must not try again and again. */
const CONFIG_CODES = new Set([
  'CONFIG_INVALID',
  'CONFIG_TOO_LARGE',
  'CONFIG_STATE_LOST',
  'NOT_JOINED',
  'IDENTITY_STATE_BAD',
  'USER_UNKNOWN',
]);

const { say, failed, wrongUsage, wrongArgs } = createProgram('mesh-agent', USAGE, CONFIG_CODES);

async function main(argv: readonly string[]): Promise<number> {
  if (argv[0] === 'redirect') {
    // Each command loads its own part only: the oneshot must be quick, and does without gossip.
    const { redirectCommand } = await import('./redirect/command.ts');
    return redirectCommand(argv.slice(1), { parseConfig: parseAgentConfig });
  }
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(argv);
  } catch (error) {
    return wrongArgs(error);
  }
  const { values, positionals } = parsed;
  if (values.help) return say(USAGE);
  if (values.version) return say(`mesh-agent ${VERSION}\n`);
  const command = values['check-config'] ? 'check-config' : positionals[0];
  const path = values.config ?? DEFAULT_CONFIG;
  if (positionals.length > 1) return wrongUsage(`unexpected ${positionals[1]}`);
  try {
    if (command === 'check-config') {
      parseAgentConfig(readConfigText(path), path);
      return say(`${path} is valid\n`);
    }
    if (command === 'join') return await join_(path, values['join-file']);
    if (command === 'run') return await run(path);
    if (command === 'leave') {
      const { leaveMesh } = await import('./leave.ts');
      await leaveMesh(parseAgentConfig(readConfigText(path), path).runDir);
      return EXIT.ok;
    }
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
      'join-file': { type: 'string' },
      'check-config': { type: 'boolean' },
      version: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
}

async function join_(path: string, file: string | undefined): Promise<number> {
  const { joinMesh, readJoinFile } = await import('./join.ts');
  const { parseJoinString } = await import('../api/http/join-string.ts');
  process.umask(0o027);
  const text = file === undefined ? await readStdin() : await readJoinFile(file);
  const configText = readConfigText(path);
  const owner = process.getuid?.() === 0 ? await ownerOf(configText, path) : undefined;
  const joined = await joinMesh({
    join: parseJoinString(text),
    configPath: path,
    configText,
    clock: systemClock,
    owner,
  });
  return say(
    `joined ${joined.config.trustDomain} as ${joined.config.host} (epoch ${joined.epoch}, generation ${joined.generation}); start it with: systemctl enable --now mesh-agent\n`,
  );
}

/** uid of agent.yaml's agentUser and gid of its proxyUser. Looked up before anything is changed. */
async function ownerOf(configText: string, path: string): Promise<{ uid: number; gid: number }> {
  const named = (key: string, fallback: string) =>
    new RegExp(`^${key}:\\s*([-a-z0-9_]+)`, 'm').exec(configText)?.[1] ?? fallback;
  const { createExec } = await import('./host/exec.ts');
  const { createUsers } = await import('./host/users.ts');
  const exec = createExec();
  const uid = await createUsers({ exec }).uid(named('agentUser', 'mesh-agent'));
  const proxy = named('proxyUser', 'mesh-proxy');
  const found = await exec('id', ['--group', proxy], { timeoutMs: 5000, maxBytes: 1024 });
  const gid = Number(found.stdout.trim());
  if (found.code !== 0 || !Number.isInteger(gid))
    throw new MeshError(
      'USER_UNKNOWN',
      `no such user: ${proxy} (${path}); systemd-sysusers makes it from packaging/sysusers.d`,
    );
  return { uid, gid };
}

async function readStdin(): Promise<string> {
  if (process.stdin.isTTY) process.stderr.write('Paste the join string, then Enter and Ctrl-D:\n');
  let text = '';
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += chunk;
    if (text.length > 16_384) break;
  }
  return text;
}

async function run(path: string): Promise<number> {
  const { createLogger } = await import('../runtime/log.ts');
  const { createSystemdNotifier } = await import('../runtime/systemd.ts');
  const { startAgent } = await import('./run.ts');
  process.umask(0o027);
  const log = createLogger({ program: 'mesh-agent' });
  let config: AgentConfig;
  try {
    config = parseAgentConfig(readConfigText(path), path);
  } catch (error) {
    if (!hasCode(error, 'CONFIG_INVALID') || !lacksOnlyJoin(path)) throw error;
    throw new MeshError('NOT_JOINED', `this host has not joined a mesh; ${HOW_TO_JOIN}`);
  }
  log.setLevel(config.logLevel);
  const systemd = createSystemdNotifier(log);
  const stopWatchdog = systemd.startWatchdog();
  const starting = new AbortController();
  const reloaded = new Promise<'SIGHUP'>((resolve) => {
    process.on('SIGHUP', () => mustStartAnew(path, config, log) && setTimeout(() => resolve('SIGHUP'), RELOADED_MS));
  });
  const signalled = Promise.race([untilSignal(), reloaded]).then((signal) => {
    starting.abort(new MeshError('STOPPING', `stopped by ${signal}`));
    return signal;
  });
  const deps = {
    clock: systemClock,
    random: Math.random,
    log,
    setLogLevel: log.setLevel,
    descriptors: await descriptorsPath(),
    resolvConf: '/etc/resolv.conf',
  };
  let agent: Agent;
  try {
    agent = await startAgent(config, deps, starting.signal);
  } catch (error) {
    stopWatchdog();
    if (starting.signal.aborted) return (await signalled) === 'SIGHUP' ? EXIT.startAnew : EXIT.ok;
    throw error;
  }
  const line = () => statusLine(agent.status());
  log.info('ready', { host: config.host, status: line() });
  await systemd.ready(line());
  const stopStatus = systemd.keepStatus(line);
  const signal = await signalled;
  log.info('stopping', { signal });
  await systemd.stopping();
  stopStatus();
  stopWatchdog();
  await agent.stop();
  return signal === 'SIGHUP' ? EXIT.startAnew : EXIT.ok;
}

/** For `systemctl status`. */
function statusLine({ generation, ackedGeneration, peers, problems }: AgentStatus): string {
  const behind = ackedGeneration < generation ? `, ${ackedGeneration} acknowledged by Envoy` : '';
  const worst = problems[0] === undefined ? '' : `; ${problems.length} problems: ${problems[0]}`;
  return `serving generation ${generation}${behind}, ${peers.alive} peers alive${worst}`;
}

/** agent.yaml lacks only what `mesh-agent join` writes into it. */
function lacksOnlyJoin(path: string): boolean {
  try {
    parseAgentConfig(`${readConfigText(path)}\nhost: not-joined\ntrustDomain: not.joined\n`, path);
    return true;
  } catch {
    return false;
  }
}

/**
 * SIGHUP, `systemctl reload`: agent.yaml is read again. True: it is good and says something new that a running agent cannot take up, so that this
 * process is to end and be started anew, which costs no traffic. A bad file is refused, and what runs goes on.
 */
function mustStartAnew(path: string, running: AgentConfig, log: Logger & { setLevel(level: LogLevel): void }): boolean {
  try {
    const next = parseAgentConfig(readConfigText(path), path);
    log.setLevel(next.logLevel);
    const differs = JSON.stringify({ ...next, logLevel: '' }) !== JSON.stringify({ ...running, logLevel: '' });
    log.info('agent.yaml read again', { file: path, log_level: next.logLevel, starts_anew: differs });
    return differs;
  } catch (error) {
    log.error('agent.yaml is refused; the running config stays', { error });
    return false;
  }
}

/** Beside a packaged program, or where scripts/fetch-envoy puts it. */
async function descriptorsPath(): Promise<string> {
  const here = dirname(fileURLToPath(import.meta.url));
  const places = [join(here, 'descriptors.pb'), join(here, '..', 'build', 'envoy', 'descriptors.pb')];
  for (const place of places) {
    const file = await open(place, 'r').catch(() => undefined);
    await file?.close();
    if (file !== undefined) return place;
  }
  throw new MeshError('XDS_DESCRIPTORS', `no descriptor set at ${places.join(' or ')}; run scripts/bootstrap`);
}

process.exitCode = await main(process.argv.slice(2));
// A library's left-over handle must not keep a finished program alive.
process.exit();

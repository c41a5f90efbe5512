/**
 * One supervised program of a lab host: what systemd does for a service unit. In: a UnitSpec and orders. Out: a process that runs as its
 * user, is started again when it dies, and a state. Must never: leave a process behind after `stop`, or start one twice.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { afterDeath, type RestartPolicy } from './restart-policy.ts';

export interface UnitSpec {
  readonly argv: readonly string[];
  /** Runs as this user with its groups and with these capabilities only (AmbientCapabilities=); absent: root. */
  readonly user?: string;
  readonly capabilities?: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** stdout and stderr are appended here. */
  readonly log: string;
  /** Not started before this file exists (ConditionPathExists=, polled). */
  readonly needs?: string;
  readonly restart: RestartPolicy;
  /** Run as root when the unit has failed for good (OnFailure=). */
  readonly onFailure?: RootCommand;
  /** Names of the sockets passed from fd 3 on, as systemd passes those of a socket unit; empty: none. */
  readonly fdNames: readonly string[];
  /** What the process is sent by `stop`, and how long until SIGKILL. */
  readonly stopTimeoutMs: number;
}

/** A program that the supervisor runs as root, its output appended to `log`. */
export interface RootCommand {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly log: string;
}

export type UnitState = 'stopped' | 'waiting' | 'running' | 'restarting' | 'failed';

export interface Unit {
  start(): void;
  /** Resolves when the process is gone; it stays down. */
  stop(): Promise<void>;
  /** SIGKILL; started again by policy unless `stayDown`. A death by this order does not count against the restart limit. */
  kill(stayDown: boolean): Promise<void>;
  status(): { readonly state: UnitState; readonly pid?: number; readonly starts: number; readonly lastExit?: string };
}

const PROBE_MS = 50;

/** A unit, stopped. `failed` is called each time it has failed for good. */
export function createUnit(spec: UnitSpec, failed: () => void, now: () => number = () => performance.now()): Unit {
  let state: UnitState = 'stopped';
  let child: ChildProcess | undefined;
  let timer: NodeJS.Timeout | undefined;
  let deaths: number[] = [];
  let starts = 0;
  let lastExit: string | undefined;
  let wanted = false;
  let asked = false; // the next death was ordered

  const later = (ms: number, next: UnitState) => {
    state = next;
    timer = setTimeout(launch, ms);
  };
  const launch = () => {
    if (!wanted) return;
    if (spec.needs !== undefined && !existsSync(spec.needs)) return later(PROBE_MS, 'waiting');
    child = spawnUnit(spec);
    state = 'running';
    starts += 1;
    child.once('error', (error) => ended(undefined, error.message));
    child.once('exit', (code, signal) => ended(code ?? undefined, signal ?? `exit ${code}`));
  };
  const ended = (code: number | undefined, why: string) => {
    child = undefined;
    lastExit = why;
    if (!wanted) {
      state = 'stopped';
      return;
    }
    if (!asked) deaths = [...deaths, now()].slice(-100);
    const verdict = asked ? 'restart' : afterDeath(spec.restart, code, deaths);
    asked = false;
    if (verdict === 'fail') {
      wanted = false;
      state = 'failed';
      failed();
    } else later(spec.restart.delayMs, 'restarting');
  };
  const gone = (process: ChildProcess) =>
    new Promise<void>((resolve) => {
      if (process.exitCode !== null || process.signalCode !== null) resolve();
      else process.once('exit', () => resolve());
    });
  return {
    start() {
      if (wanted) return;
      wanted = true;
      deaths = [];
      launch();
    },
    async stop() {
      wanted = false;
      clearTimeout(timer);
      const running = child;
      if (running === undefined) {
        state = 'stopped';
        return;
      }
      running.kill('SIGTERM');
      const hard = setTimeout(() => running.kill('SIGKILL'), spec.stopTimeoutMs);
      await gone(running);
      clearTimeout(hard);
      state = 'stopped';
    },
    async kill(stayDown) {
      if (stayDown) {
        wanted = false;
        clearTimeout(timer);
      }
      const running = child;
      if (running === undefined) {
        if (stayDown) state = 'stopped';
        return;
      }
      asked = true;
      running.kill('SIGKILL');
      await gone(running);
      if (stayDown) asked = false;
    },
    status: () => ({
      state,
      ...(child?.pid === undefined ? {} : { pid: child.pid }),
      starts,
      ...(lastExit === undefined ? {} : { lastExit }),
    }),
  };
}

/** sh sets what only the process itself can (its pid for sd_listen_fds(3), limits), then becomes setpriv, then the program: one pid. */
function spawnUnit(spec: UnitSpec): ChildProcess {
  const log = openSync(spec.log, 'a', 0o640);
  const capabilities = ['-all', ...(spec.capabilities ?? []).map((name) => `+${name}`)].join();
  const drop =
    spec.user === undefined
      ? []
      : [
          'setpriv',
          '--reuid',
          spec.user,
          '--regid',
          spec.user,
          '--init-groups',
          `--inh-caps=${capabilities}`,
          `--ambient-caps=${capabilities}`,
          `--bounding-set=${capabilities}`,
          '--no-new-privs',
        ];
  const names = spec.fdNames;
  const fds = names.length === 0 ? {} : { LISTEN_FDS: String(names.length), LISTEN_FDNAMES: names.join(':') };
  const child = spawn(
    'sh',
    ['-c', names.length === 0 ? LIMITS : `export LISTEN_PID=$$; ${LIMITS}`, 'sh', ...drop, ...spec.argv],
    {
      stdio: ['ignore', log, log, ...names.map((_, index) => 3 + index)],
      env: { ...spec.env, ...fds },
      cwd: '/',
    },
  );
  closeSync(log); // the child has its own
  return child;
}

/** No core dumps: keys are in memory. */
const LIMITS = 'ulimit -c 0; ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"; exec "$@"';

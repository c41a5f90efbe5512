import { spawn } from 'node:child_process';
import notify from 'systemd-notify';
import type { Logger } from './log.ts';

/**
 * sd_notify(3) by the systemd-notify package (readiness, status) and, for what it lacks, by systemd-notify(1) (WATCHDOG=1, STOPPING=1,
 * RELOADING=1). Does nothing when the process does not run under systemd (no NOTIFY_SOCKET). A failure to notify is logged, never thrown.
 */
export interface SystemdNotifier {
  ready(status: string): Promise<void>;
  status(text: string): Promise<void>;
  stopping(): Promise<void>;
  /** Tells `read()` again whenever it changed, looked at every 10 s: what `systemctl status` shows is not older. Returns stop. */
  keepStatus(read: () => string): () => void;
  /** Pings the watchdog at half of WATCHDOG_USEC from this process's own event loop, so that a blocked loop is seen; returns stop. */
  startWatchdog(): () => void;
}

const STATUS_EVERY_MS = 10_000;

export function createSystemdNotifier(log: Logger, env: NodeJS.ProcessEnv = process.env): SystemdNotifier {
  const active = env.NOTIFY_SOCKET !== undefined && env.NOTIFY_SOCKET !== '';
  const guarded = async (what: string, send: () => Promise<unknown>) => {
    if (!active) return;
    try {
      await send();
    } catch (error) {
      log.warn('systemd notification failed', { what, error });
    }
  };
  const tell = (text: string) => guarded('status', () => notify({ status: text }));
  return {
    ready: (status) => guarded('ready', () => notify({ ready: true, status, pid: process.pid })),
    status: tell,
    keepStatus(read) {
      if (!active) return () => {};
      let told = read();
      const timer = setInterval(() => {
        const text = read();
        if (text !== told) void tell(text);
        told = text;
      }, STATUS_EVERY_MS);
      timer.unref();
      return () => clearInterval(timer);
    },
    stopping: () => guarded('stopping', () => raw(['STOPPING=1'])),
    startWatchdog() {
      const usec = Number(env.WATCHDOG_USEC ?? 0);
      if (!active || !Number.isFinite(usec) || usec <= 0) return () => {};
      const timer = setInterval(() => void guarded('watchdog', () => raw(['WATCHDOG=1'])), usec / 2000);
      timer.unref();
      return () => clearInterval(timer);
    },
  };
}

function raw(args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('systemd-notify', args, { stdio: 'ignore' });
    child.once('error', reject);
    child.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`systemd-notify exited with ${code}`))));
  });
}

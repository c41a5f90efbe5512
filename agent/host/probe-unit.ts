import { createHash } from 'node:crypto';

/**
 * Name, without suffix, of the units by which systemd runs this command as this user: root's oneshot writes them, the agent connects to their
 * socket. Of another user or command it is another name, so that who connects gets what was listed or nothing.
 */
export function probeUnit(uid: number, command: readonly string[]): string {
  const hash = createHash('sha256')
    .update(JSON.stringify([uid, ...command]))
    .digest('hex');
  return `mesh-probe-${hash.slice(0, 16)}`;
}

/** The name of a file that `probeUnit` names a unit by. */
export const PROBE_UNIT_FILE = /^mesh-probe-[0-9a-f]{16}(\.socket|@\.service)$/;

/** Where its socket listens: in a folder that is root's, so that nobody else can stand there. */
export function probeSocket(unit: string): string {
  return `/run/${unit}.sock`;
}

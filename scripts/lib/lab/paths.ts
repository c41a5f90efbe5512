import { join } from 'node:path';

/** Everything the lab keeps lies here; the folder's existence is the lock that lets one lab run on a machine. */
export const LAB_DIR = '/run/hostmesh-lab';
/** The work tree. */
export const ROOT = join(import.meta.dirname, '../../..');
/** Where each supervisor mounts the work tree for itself, so that the mesh's users can read it wherever it lies. */
export const TREE = `${LAB_DIR}/tree`;

export interface HostPaths {
  readonly dir: string;
  readonly config: string;
  readonly stateDir: string;
  readonly runDir: string;
  readonly logDir: string;
  /** The supervisor's control socket, 0600 root. */
  readonly control: string;
  readonly supervisorSpec: string;
}

/** Paths of a host or a controller of the lab. */
export function pathsOf(name: string): HostPaths {
  const dir = `${LAB_DIR}/nodes/${name}`;
  return {
    dir,
    config: `${dir}/etc/${/^ctl\d+$/.test(name) ? 'controller' : 'agent'}.yaml`,
    stateDir: `${dir}/state`,
    runDir: `${dir}/run`,
    logDir: `${dir}/log`,
    control: `${dir}/control.sock`,
    supervisorSpec: `${dir}/supervisor.json`,
  };
}

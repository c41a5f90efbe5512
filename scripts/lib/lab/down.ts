import { readdirSync, rmdirSync, rmSync } from 'node:fs';
import type { Exec } from '../../../agent/host/exec.ts';
import { destroyNetwork } from './network.ts';
import { loadState, releaseLock } from './state.ts';
import { removeUsers } from './users.ts';

/** Takes everything down that the record names: processes, namespaces, the machine's leg, name server files, users, files. Safe to repeat, also after a crash half-way. False: there was no lab. */
export async function takeDown(exec: Exec): Promise<boolean> {
  const state = loadState();
  if (state !== undefined) {
    await destroyNetwork(exec, state.namespaces);
    for (const netns of state.namespaces) rmSync(`/etc/netns/${netns}`, { recursive: true, force: true });
    removeIfEmpty('/etc/netns');
    await removeUsers(exec, state.users);
  }
  releaseLock();
  return state !== undefined;
}

function removeIfEmpty(folder: string): void {
  try {
    if (readdirSync(folder).length === 0) rmdirSync(folder);
  } catch {
    // it is not there
  }
}

import { readFile, stat } from 'node:fs/promises';
import { hasCode, MeshError } from '../../api/errors.ts';
import type { Exec } from '../host/exec.ts';
import type { Family } from './spec.ts';
import { readTable, type TableName } from './tables.ts';

/** Which kernel interface the iptables programs write to. */
export type BackendName = 'nft' | 'legacy';

/** iptables of one backend, both families. Every method throws MeshError with the cause in plain words. */
export interface Backend {
  readonly name: BackendName;
  /** Text of iptables-save. Creates no table. */
  save(family: Family): Promise<string>;
  /** One `iptables-restore --noflush -w 5`. Each table in `text` commits on its own. */
  restore(family: Family, text: string): Promise<void>;
  /**
   * Deletes those of `tables` that have no rule, no chain but built-in ones and no policy but ACCEPT, in one transaction. nft only; legacy
   * tables live in the kernel.
   */
  dropEmpty(family: Family, tables: readonly TableName[]): Promise<void>;
}

const PROGRAM: Readonly<Record<Family, string>> = { v4: 'iptables', v6: 'ip6tables' };
const NFT_FAMILY: Readonly<Record<Family, string>> = { v4: 'ip', v6: 'ip6' };
/** How long iptables waits for the lock of another one, seconds. */
const LOCK_WAIT_SECONDS = 5;
/** Longer than the wait for the lock, so that iptables itself can say why. */
const TIMEOUT_MS = 15_000;

/** A backend by its name. `isDefault`: the plain names (`iptables-save`) are this backend's, as on hosts that have no suffixed ones. */
export function createBackend(exec: Exec, name: BackendName, isDefault: boolean): Backend {
  const program = (family: Family, part: string) => `${PROGRAM[family]}${isDefault ? '' : `-${name}`}-${part}`;
  const run = async (file: string, args: string[], input = '') => {
    const result = await exec(file, args, { input, timeoutMs: TIMEOUT_MS }).catch((cause: unknown) => {
      if (!hasCode(cause, 'EXEC_MISSING')) throw cause;
      throw new MeshError('REDIRECT_NO_IPTABLES', `${file} is not installed (package iptables)`, { cause });
    });
    if (result.code !== 0) throw await explain(file, result.stderr, input);
    return result.stdout;
  };
  return {
    name,
    save: (family) => run(program(family, 'save'), []),
    restore: async (family, text) => {
      await run(program(family, 'restore'), ['--noflush', '-w', String(LOCK_WAIT_SECONDS)], text);
    },
    async dropEmpty(family, tables) {
      if (name !== 'nft' || tables.length === 0) return;
      const save = await this.save(family);
      const empty = tables.filter((table) => {
        const read = readTable(save, table);
        return read.present && read.otherwiseEmpty && read.chains.size === 0 && read.jumps.length === 0;
      });
      if (empty.length > 0) await dropTables(exec, NFT_FAMILY[family], empty);
    },
  };
}

/**
 * The backend to use on this host: the one that `iptables` is, unless only the other one has rules in it. Throws REDIRECT_NO_IPTABLES.
 */
export async function detectBackend(exec: Exec, procPath = '/proc'): Promise<Backend> {
  const version = await exec('iptables', ['--version']).catch((cause: unknown) => {
    throw new MeshError('REDIRECT_NO_IPTABLES', 'iptables is not installed (package iptables)', { cause });
  });
  const standard: BackendName = version.stdout.includes('nf_tables') ? 'nft' : 'legacy';
  if (standard === 'nft' && (await legacyTables(procPath)).length > 0) {
    const legacy = createBackend(exec, 'legacy', false);
    const [old, current] = await Promise.all([
      legacy.save('v4').catch(() => ''),
      createBackend(exec, 'nft', true).save('v4'),
    ]);
    if (hasRules(old) && !hasRules(current)) return legacy;
  }
  return createBackend(exec, standard, true);
}

/** Every backend in which rules of ours could stand: for clean-up after the host's default changed. */
export async function allBackends(exec: Exec, procPath = '/proc'): Promise<Backend[]> {
  const first = await detectBackend(exec, procPath);
  if (first.name === 'legacy') {
    const nft = await exec('iptables-nft', ['--version']).catch(() => undefined);
    const isPlain = !(await exec('iptables', ['--version'])).stdout.includes('nf_tables');
    return nft?.code === 0 ? [first, createBackend(exec, 'nft', !isPlain)] : [first];
  }
  if ((await legacyTables(procPath)).length === 0) return [first];
  const legacy = await exec('iptables-legacy', ['--version']).catch(() => undefined);
  return legacy?.code === 0 ? [first, createBackend(exec, 'legacy', false)] : [first];
}

/** Legacy tables of this network namespace; asking iptables-legacy itself would create them. */
async function legacyTables(procPath: string): Promise<string[]> {
  const files = ['ip_tables_names', 'ip6_tables_names'].map((name) =>
    readFile(`${procPath}/net/${name}`, 'utf8').catch(() => ''),
  );
  return (await Promise.all(files))
    .join('')
    .split('\n')
    .filter((line) => line !== '');
}

function hasRules(save: string): boolean {
  return save.split('\n').some((line) => line.startsWith('-A ') && !line.includes('MESH_'));
}

/** Chains first, in the same transaction: a rule that was added a moment ago makes the kernel refuse the whole of it. */
async function dropTables(exec: Exec, family: string, tables: readonly string[]): Promise<void> {
  const lines = await Promise.all(
    tables.map(async (table) => {
      const listed = await exec('nft', ['-j', 'list', 'table', family, table]).catch(() => undefined);
      if (listed?.code !== 0) return []; // no nft program: an empty table stays, which is harmless
      const chains = [...listed.stdout.matchAll(CHAIN_NAME)].map((match) => match[1]);
      return [...chains.map((chain) => `delete chain ${family} ${table} ${chain}`), `delete table ${family} ${table}`];
    }),
  );
  const input = lines.flat().join('\n');
  if (input !== '') await exec('nft', ['-f', '-'], { input: `${input}\n` });
}

const CHAIN_NAME = /"chain": \{"family": "[^"]+", "table": "[^"]+", "name": "([^"]+)"/g;

/** iptables' own words turned into a code and a cause that an operator can act on. */
async function explain(file: string, stderr: string, input: string): Promise<MeshError> {
  const words = stderr.trim().split('\n').slice(0, 4).join(' ').slice(0, 600);
  const details = { program: file, stderr: words };
  if (/holding the xtables lock/i.test(words)) {
    const holder = await lockHolder();
    return new MeshError(
      'REDIRECT_LOCKED',
      `the xtables lock is held by ${holder}; waited ${LOCK_WAIT_SECONDS} s; stop that program, it is tried again`,
      {
        details,
      },
    );
  }
  if (/permission denied|must be root|operation not permitted/i.test(words))
    return new MeshError('REDIRECT_PRIVILEGE', `${file} needs root in this network namespace: ${words}`, { details });
  const extension = /(?:load (?:match|target) [`'"]?|extension )([a-zA-Z]+)/.exec(words)?.[1];
  if (extension !== undefined)
    return new MeshError(
      'REDIRECT_MODULE',
      `the kernel or iptables lacks the extension ${extension}: modprobe xt_${extension}, or install all of the package iptables: ${words}`,
      { details },
    );
  const line = /line:? (\d+)/.exec(words)?.[1];
  const rule = line === undefined ? '' : ` at "${input.split('\n')[Number(line) - 1] ?? ''}"`;
  return new MeshError('REDIRECT_FAILED', `${file} failed${rule}: ${words}`, { details });
}

/** `NAME (pid N)` of the process that holds the lock file of legacy iptables, out of /proc/locks. */
async function lockHolder(): Promise<string> {
  try {
    const { ino } = await stat('/run/xtables.lock');
    for (const line of (await readFile('/proc/locks', 'utf8')).split('\n')) {
      const [, , , kind, pid = '', file = ''] = line.trim().split(/\s+/);
      if (kind !== 'WRITE' || Number(file.split(':')[2]) !== ino) continue;
      const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?');
      return `${name.trim()} (pid ${pid})`;
    }
  } catch {
    // the holder is a courtesy; the error stands without it
  }
  return 'another process';
}

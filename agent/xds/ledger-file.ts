import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { ObjectKey } from '../../api/resources/object.ts';
import type { Logger } from '../../runtime/log.ts';
import type { LedgerState } from './ledger.ts';
import { type Entry, SERVED_TYPES, type ServedType } from './snapshot-cache.ts';

/** The ledger as JSON, bytes as base64. It holds no secret (ledger.ts leaves them out). */
interface FileForm {
  readonly version: 1;
  readonly everSent: { readonly cluster: readonly string[]; readonly listener: readonly string[] };
  readonly lastGood: readonly {
    readonly type: ServedType;
    readonly name: string;
    readonly version: string;
    readonly bytes: string;
    readonly origins: readonly string[];
    readonly edsName?: string;
    readonly needsClusters?: true;
  }[];
  readonly unsure?: readonly string[];
}

/** Reads what an agent before this one left; undefined when there is none, or it cannot be read (said in the log: Envoy may then keep removed resources until it restarts). */
export function loadLedger(path: string, log: Logger): LedgerState | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') log.error('cannot read', { path, error });
    return undefined;
  }
  try {
    return fromFile(JSON.parse(text) as FileForm);
  } catch (error) {
    log.error('not a ledger of what was sent to Envoy; starting anew', { path, error });
    return undefined;
  }
}

/** Replaces the file at once, and synchronously: it must be there before Envoy is sent a name. No fsync: a host that crashes loses its Envoy too. */
export function saveLedger(path: string, state: LedgerState): void {
  const form: FileForm = {
    version: 1,
    everSent: state.everSent,
    lastGood: state.lastGood.map(({ type, name, version, bytes, origins, edsName, needsClusters }) => ({
      type: type as ServedType,
      name,
      version,
      bytes: Buffer.from(bytes).toString('base64'),
      origins,
      ...(edsName === undefined ? {} : { edsName }),
      ...(needsClusters === true ? { needsClusters } : {}),
    })),
    unsure: state.unsure,
  };
  writeFileSync(`${path}.new`, JSON.stringify(form), { mode: 0o640 });
  renameSync(`${path}.new`, path);
}

function fromFile(form: FileForm): LedgerState {
  if (form.version !== 1) throw new TypeError(`version ${form.version}`);
  return {
    everSent: { cluster: names(form.everSent.cluster), listener: names(form.everSent.listener) },
    lastGood: form.lastGood.map(
      ({ type, name, version, bytes, origins, edsName, needsClusters }): Entry => ({
        type: SERVED_TYPES.find((served) => served === type) ?? raise(`type ${type}`),
        name: String(name),
        version: String(version),
        bytes: Buffer.from(bytes, 'base64'),
        origins: origins.map((key) => key as ObjectKey),
        edsName,
        ...(needsClusters === true ? { needsClusters } : {}),
      }),
    ),
    unsure: names(form.unsure ?? []),
  };
}

function names(list: readonly string[]): readonly string[] {
  if (!Array.isArray(list)) throw new TypeError('no list of names');
  return list.map(String);
}

function raise(what: string): never {
  throw new TypeError(`unknown ${what}`);
}

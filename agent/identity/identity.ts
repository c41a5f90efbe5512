/**
 * Keys and SVIDs of this host. In: which WorkloadGroups are bound here, trusted intermediates, a way to ask a controller. Out: the host's
 * TLS identity, secrets by name for Envoy, what is about to expire. Keys are made here, lie 0600 in STATE_DIR/identity and go nowhere else.
 * Must never: take an SVID that does not verify, fit the key, or carry the identity that was asked for.
 */
import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errorLine, MeshError } from '../../api/errors.ts';
import type { SvidRequest, SvidResponse } from '../../api/http/agent-api.ts';
import { hostSpiffeId } from '../../api/identity/spiffe-id.ts';
import { createCsr, parseChain, subjectAltNames, verifySvid } from '../../api/identity/x509.ts';
import { backoffMs } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Part } from '../../runtime/lifecycle.ts';
import type { Logger } from '../../runtime/log.ts';
import { expiryProblem, renewAt } from './rotation.ts';
import { keyPem, loadSvid, newKey, type Svid, saveSvid } from './svid-file.ts';

/** The name of the validation context: the intermediates that signed config lists. */
export const TRUST_BUNDLE = 'ROOTCA';

export interface WorkloadIdentity {
  /** `NAMESPACE/NAME` of the WorkloadGroup. */
  readonly group: string;
  readonly spiffeId: string;
}

export interface IdentityDeps {
  /** STATE_DIR/identity. */
  readonly dir: string;
  readonly host: string;
  readonly trustDomain: string;
  /** Asks a controller, presenting the host SVID. Rejects when none is reachable or it refuses. */
  requestSvids(request: SvidRequest, signal: AbortSignal): Promise<SvidResponse>;
  /** PEM of the intermediates that the current generation lists. */
  trusted(): readonly string[];
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

export type Secret =
  | { readonly certificateChainPem: string; readonly privateKeyPem: string }
  | { readonly trustedCaPem: string };

export interface Identity extends Part {
  hostIdentity(): { readonly chainPem: string; readonly privateKey: KeyObject };
  /** Which workloads run here now; SVIDs that are missing or carry another identity are asked for at once. */
  setWorkloads(workloads: readonly WorkloadIdentity[]): void;
  /** The trust bundle changed with a new generation. */
  trustChanged(): void;
  secret(name: string): Secret | undefined;
  /** Called with the names of secrets that changed, and with the host's SPIFFE ID when its SVID was renewed. */
  onChange(listener: (names: readonly string[]) => void): void;
  status(): {
    readonly svids: readonly { group: string; spiffeId: string; notAfter: number }[];
    readonly problems: readonly string[];
  };
}

const RETRY = { baseMs: 200, maxMs: 30_000 };

export function createIdentity(deps: IdentityDeps): Identity {
  const workloadDir = join(deps.dir, 'workloads');
  const listeners: ((names: readonly string[]) => void)[] = [];
  const svids = new Map<string, Svid>(); // by group
  let wanted: readonly WorkloadIdentity[] = [];
  let host: Svid | undefined;
  let failures = 0;
  let lastError: string | undefined;
  let cancelTimer = () => {};
  let running: Promise<void> | undefined;
  let again = false;
  let signal: AbortSignal | undefined;

  const notify = (names: readonly string[]) => {
    for (const listener of listeners) listener(names);
  };
  const hostSvid = (): Svid => {
    if (host === undefined)
      throw new MeshError('NOT_JOINED', 'this host has no SVID; run `mesh-agent join` with a join string');
    return host;
  };
  const due = (now: number): { host: boolean; groups: WorkloadIdentity[] } => ({
    host: host !== undefined && now >= renewAt(host, () => jitter(host as Svid)),
    groups: wanted.filter((w) => {
      const svid = svids.get(w.group);
      return svid === undefined || svid.spiffeId !== w.spiffeId || now >= renewAt(svid, () => jitter(svid));
    }),
  });

  async function renew(abort: AbortSignal): Promise<void> {
    const needed = due(deps.clock.now());
    if (!needed.host && needed.groups.length === 0) return;
    const keys = needed.groups.map(() => newKey());
    const hostKey = hostSvid().privateKey;
    const requests: SvidRequest['requests'][number][] = needed.groups.map((w, i) => ({
      kind: 'workload',
      group: w.group,
      csr: createCsr(keys[i] as KeyObject),
    }));
    if (needed.host) requests.push({ kind: 'host', csr: createCsr(hostKey) });
    const { results } = await deps.requestSvids({ requests }, abort);
    const problems: string[] = [];
    for (const [i, result] of results.entries()) {
      const workload = needed.groups[i];
      if ('code' in result) {
        problems.push(`${workload === undefined ? 'host SVID' : `SVID of ${workload.group}`}: ${result.message}`);
      } else if (workload === undefined) {
        host = accept(result.svid, hostKey, hostSpiffeId(deps.trustDomain, deps.host));
        await saveSvid(join(deps.dir, 'host.pem'), hostKey, result.svid);
        notify([host.spiffeId]);
      } else {
        const key = keys[i] as KeyObject;
        const svid = accept(result.svid, key, workload.spiffeId);
        await saveSvid(fileOf(workloadDir, workload.group), key, result.svid);
        svids.set(workload.group, svid);
        deps.log.info('SVID received', {
          group: workload.group,
          spiffe_id: svid.spiffeId,
          not_after: new Date(svid.notAfter).toISOString(),
        });
        notify([svid.spiffeId]);
      }
    }
    if (problems.length > 0) throw new MeshError('SVID_REFUSED', problems.join('; '));
  }

  function accept(chainPem: string, key: KeyObject, spiffeId: string): Svid {
    const [leaf] = parseChain(chainPem);
    const trusted = deps.trusted().map((pem) => new X509Certificate(pem));
    const seen = verifySvid(leaf as X509Certificate, { trusted, trustDomain: deps.trustDomain, now: deps.clock.now() });
    if (seen.spiffeId !== spiffeId || seen.hostId !== deps.host || !leaf?.checkPrivateKey(key)) {
      throw new MeshError(
        'SVID_INVALID',
        `the controller issued ${seen.spiffeId} for another identity or key than was asked for`,
      );
    }
    return { privateKey: key, chainPem, spiffeId, issuedAt: deps.clock.now(), notAfter: seen.notAfter };
  }

  /** One renewal at a time; a call during one makes it run again. */
  function kick(): void {
    cancelTimer();
    const abort = signal;
    if (abort === undefined || abort.aborted) return;
    if (running !== undefined) {
      again = true;
      return;
    }
    running = renew(abort)
      .then(() => {
        failures = 0;
        lastError = undefined;
      })
      .catch((error: unknown) => {
        failures += 1;
        lastError = errorLine(error);
        if (!abort.aborted) deps.log.warn('SVIDs not renewed', { error, failures });
      })
      .finally(() => {
        running = undefined;
        if (abort.aborted) return;
        if (again) {
          again = false;
          return kick();
        }
        const wait = lastError === undefined ? 60_000 : backoffMs(failures, RETRY, deps.random);
        cancelTimer = deps.clock.after(wait, kick);
      });
  }

  async function loadAll(): Promise<void> {
    await mkdir(workloadDir, { recursive: true, mode: 0o700 });
    const stored = await loadSvid(join(deps.dir, 'host.pem'));
    if (stored === undefined) hostSvid();
    else host = toSvid(stored);
    for (const file of await readdir(workloadDir)) {
      if (!file.endsWith('.pem')) continue;
      try {
        const svid = await loadSvid(join(workloadDir, file));
        if (svid !== undefined) svids.set(file.slice(0, -4).replace('_', '/'), toSvid(svid));
      } catch (error) {
        deps.log.warn('a stored SVID is dropped and asked for again', { file, error });
        await rm(join(workloadDir, file), { force: true });
      }
    }
  }

  return {
    name: 'identity',
    async start(abort) {
      await loadAll();
      signal = abort;
      kick();
    },
    async stop() {
      cancelTimer();
      signal = undefined;
      await running;
    },
    hostIdentity: () => hostSvid(),
    setWorkloads(workloads) {
      wanted = workloads;
      kick();
    },
    trustChanged() {
      notify([TRUST_BUNDLE]);
      kick();
    },
    secret(name) {
      if (name === TRUST_BUNDLE) {
        const bundle = deps.trusted().join('');
        return bundle === '' ? undefined : { trustedCaPem: bundle };
      }
      const svid = wanted.map((w) => svids.get(w.group)).find((s) => s?.spiffeId === name);
      return svid && { certificateChainPem: svid.chainPem, privateKeyPem: keyPem(svid.privateKey) };
    },
    onChange: (listener) => void listeners.push(listener),
    status() {
      const now = deps.clock.now();
      const rows = wanted.flatMap((w) => {
        const svid = svids.get(w.group);
        return svid === undefined ? [] : [{ group: w.group, spiffeId: svid.spiffeId, notAfter: svid.notAfter }];
      });
      const problems = wanted.map((w) => {
        const svid = svids.get(w.group);
        return svid === undefined ? `no SVID for ${w.group} yet` : expiryProblem(`SVID of ${w.group}`, svid, now);
      });
      if (host !== undefined) problems.push(expiryProblem('host SVID', host, now));
      if (lastError !== undefined) problems.push(lastError);
      return { svids: rows, problems: problems.filter((p) => p !== undefined) };
    },
  };
}

/** A stable number in [0,1) out of the certificate, so that an SVID's renewal time does not move with each look. */
function jitter(svid: Svid): number {
  return createHash('sha256').update(svid.chainPem).digest().readUInt32BE(0) / 2 ** 32;
}

function toSvid(stored: { privateKey: KeyObject; chainPem: string; modifiedAt: number }): Svid {
  const leaf = parseChain(stored.chainPem)[0] as X509Certificate;
  return {
    privateKey: stored.privateKey,
    chainPem: stored.chainPem,
    spiffeId: subjectAltNames(leaf.raw).uris[0] ?? '',
    issuedAt: stored.modifiedAt,
    notAfter: leaf.validToDate.getTime(),
  };
}

/** `NS/NAME` as a file name: `_` is in no namespace. */
function fileOf(dir: string, group: string): string {
  return join(dir, `${group.replace('/', '_')}.pem`);
}

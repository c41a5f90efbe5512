/**
 * `mesh-agent join`: from a join string to a host of the mesh. In: the join string (a secret: stdin or a 0600 file), agent.yaml. Out: STATE_DIR
 * with the verified config, the host's key and SVID; agent.yaml completed. Trust comes in this order (DESIGN 3.4): root v1 by the pinned
 * hash, config by that root, the controller's certificate by that config, and only then the one-shot secret is sent. Must never leave a
 * part of that behind when a step fails.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { chown, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isScalar, parseDocument } from 'yaml';
import { MeshError } from '../api/errors.ts';
import { formatEndpoint } from '../api/gossip/address.ts';
import type { JoinString } from '../api/http/join-string.ts';
import { hostSpiffeId } from '../api/identity/spiffe-id.ts';
import { createCsr, parseChain, verifySvid } from '../api/identity/x509.ts';
import type { DesiredConfig } from '../api/signed-config/desired-config.ts';
import { fullUpdate } from '../api/signed-config/history.ts';
import { toDesiredConfig } from '../api/signed-config/to-desired-config.ts';
import { type TrustedState, trustAnchor, versionsOf } from '../api/signed-config/verifier.ts';
import { writeFileAtomic } from '../runtime/atomic-file.ts';
import type { Clock } from '../runtime/clock.ts';
import { type AgentConfig, parseAgentConfig } from './config.ts';
import { createControllerClient } from './controlplane/client.ts';
import { createHostApi } from './controlplane/host-api.ts';
import { createTrustedConfig } from './controlplane/trusted-config.ts';
import type { Owner } from './host/as-user.ts';
import { globalAddresses } from './host/interfaces.ts';
import { newKey } from './identity/svid-file.ts';
import { keepJoined, prepareState } from './join-store.ts';

/** More than this and no certificate or timestamp can be judged (the controller's own limit). */
const MAX_SKEW_MS = 10 * 60_000;
/** A generation is signed within milliseconds of the enrolment; a host that waits in vain learns of its grant when it runs. */
const GRANTED_WITHIN_MS = 5000;

export interface JoinInput {
  readonly join: JoinString;
  readonly configPath: string;
  readonly configText: string;
  readonly clock: Clock;
  /** Whose the state becomes, when the caller is root; undefined: it stays the caller's. */
  readonly owner: Owner | undefined;
}

export interface Joined {
  readonly config: AgentConfig;
  readonly epoch: number;
  readonly generation: number;
}

/** Joins. Throws MeshError with the cause in one line: JOIN_*, CLOCK_SKEW, TOKEN_*, CONTROLLER_*, CONFIG_*, SVID_*. */
export async function joinMesh(input: JoinInput): Promise<Joined> {
  const { join: given, clock } = input;
  const before = parseAgentConfig(
    completed(input.configText, given.host, undefined, given.controllers),
    input.configPath,
  );
  checkAgainst(before, given);
  await refuseJoined(before);
  const { url, rootText } = await pinnedRoot(given, clock);
  const { state: unenrolled, desired } = await verifiedConfig(url, rootText, clock);
  const text = completed(input.configText, given.host, desired.trustDomain, given.controllers);
  const config = parseAgentConfig(text, input.configPath);
  if (config.trustDomain !== desired.trustDomain)
    throw new MeshError(
      'JOIN_MISMATCH',
      `agent.yaml has trustDomain ${config.trustDomain}, the mesh is ${desired.trustDomain}; correct or remove the line`,
    );
  await prepareState(config, input.owner, rootText, configBytes(unenrolled));
  const key = newKey();
  const { epoch, hostSvid } = await enrol(config, given, desired, url, createCsr(key), clock);
  checkSvid(hostSvid, config, desired, key, clock);
  const state = await untilGranted(url, unenrolled, config, clock);

  await keepJoined(config, input.owner, { rootText, state, peers: given.peers, key, hostSvid }, async () => {
    if (text !== input.configText) await replaceConfig(input.configPath, text);
  });
  return { config, epoch, generation: versionsOf(state).generation };
}

/** agent.yaml with what comes from the join string written in where it is absent; the rest of the text, comments too, stays. */
function completed(
  text: string,
  host: string,
  trustDomain: string | undefined,
  controllers: readonly string[],
): string {
  const document = parseDocument(text);
  // What is broken is named, with its line, by the parser of agent.yaml.
  if (document.errors.length > 0 || (document.contents !== null && !('items' in document.contents))) return text;
  const absent = (key: string) => {
    const node = document.get(key, true);
    return node === undefined || (isScalar(node) && (node.value === null || node.value === ''));
  };
  let changed = false;
  const set = (key: string, value: unknown) => {
    document.set(key, value);
    changed = true;
  };
  if (absent('host')) set('host', host);
  if (absent('trustDomain')) set('trustDomain', trustDomain ?? 'not.known.yet');
  const listed = document.get('controllers') as { items?: readonly unknown[] } | undefined;
  if (listed === undefined || listed === null || (Array.isArray(listed.items) && listed.items.length === 0))
    set('controllers', controllers);
  return changed ? document.toString() : text;
}

function checkAgainst(config: AgentConfig, given: JoinString): void {
  if (config.host !== given.host)
    throw new MeshError(
      'JOIN_MISMATCH',
      `the join string is for host ${given.host}, agent.yaml says host: ${config.host}`,
    );
  for (const { group } of config.workloads)
    if (!given.workloadGroups.includes(group))
      throw new MeshError(
        'JOIN_NOT_GRANTED',
        `agent.yaml binds WorkloadGroup ${group}, which the join string does not grant (it grants ${given.workloadGroups.join(', ') || 'none'}); make one with \`meshctl token create --host ${given.host} --group ${group}\``,
      );
}

async function refuseJoined(config: AgentConfig): Promise<void> {
  const path = join(config.stateDir, 'identity', 'host.pem');
  const there = await stat(path).catch(() => undefined);
  if (there !== undefined)
    throw new MeshError(
      'JOIN_DONE',
      `this host has joined already (${path} exists); to join anew, stop mesh-agent and remove ${config.stateDir}/identity and ${config.stateDir}/config`,
    );
}

/** The first controller that shows the pinned root, after the clocks were compared. */
async function pinnedRoot(given: JoinString, clock: Clock): Promise<{ url: string; rootText: string }> {
  const client = createControllerClient({ trust: () => undefined, now: () => clock.now() });
  let failure: unknown;
  try {
    for (const url of given.controllers) {
      try {
        const { text, date } = await client.rootV1(url);
        if (createHash('sha256').update(text).digest('hex') !== given.rootSha256)
          throw new MeshError(
            'JOIN_ROOT_MISMATCH',
            `${url} shows another TUF root than the join string pins: it is another mesh, or somebody in between`,
          );
        checkClock(date, clock.now());
        return { url, rootText: text };
      } catch (error) {
        if (error instanceof MeshError && error.code === 'CLOCK_SKEW') throw error;
        failure = error;
      }
    }
  } finally {
    client.close();
  }
  throw failure;
}

function checkClock(theirs: number | undefined, ours: number): void {
  if (theirs === undefined || Math.abs(theirs - ours) <= MAX_SKEW_MS) return;
  const minutes = Math.round(Math.abs(theirs - ours) / 60_000);
  throw new MeshError(
    'CLOCK_SKEW',
    `this host's clock is ${minutes} min ${ours > theirs ? 'ahead of' : 'behind'} the controller's (${new Date(theirs).toISOString()}); set it, e.g. with chrony, and join again`,
  );
}

/** The config of now, verified in memory; nothing is written. */
async function verifiedConfig(
  url: string,
  rootText: string,
  clock: Clock,
): Promise<{ state: TrustedState; desired: DesiredConfig }> {
  const client = createControllerClient({ trust: () => undefined, now: () => clock.now() });
  const trusted = createTrustedConfig(
    { state: trustAnchor(rootText), desired: undefined },
    { cache: { save: async () => {} }, now: () => clock.now() },
  );
  try {
    const body = await client.config(url, { root: 1, generation: 0, timestamp: 0 }, 0);
    if (body === undefined)
      throw new MeshError('CONTROLLER_REFUSED', `${url} has no signed config yet; try again in a moment`);
    const outcome = await trusted.offer(body);
    if (outcome.kind === 'refused') throw outcome.error;
    const desired = trusted.desired();
    if (desired === undefined) throw new MeshError('CONTROLLER_REFUSED', `${url} gave no generation`);
    return { state: trusted.state(), desired };
  } finally {
    client.close();
  }
}

/** The config of a moment later, which grants this host what it may serve; without it the first start would serve nothing at first. */
async function untilGranted(
  url: string,
  state: TrustedState,
  config: AgentConfig,
  clock: Clock,
): Promise<TrustedState> {
  const desired = state.accepted === undefined ? undefined : toDesiredConfig(state.accepted);
  const client = createControllerClient({
    trust: () => desired && { intermediates: anchorsOf(desired), trustDomain: desired.trustDomain },
    now: () => clock.now(),
  });
  const trusted = createTrustedConfig({ state, desired }, { cache: { save: async () => {} }, now: () => clock.now() });
  const end = clock.monotonic() + GRANTED_WITHIN_MS;
  try {
    while (trusted.desired()?.hosts.has(config.host) !== true && clock.monotonic() < end) {
      const body = await client.config(url, versionsOf(trusted.state()), 1);
      const outcome = body === undefined ? undefined : await trusted.offer(body);
      if (outcome?.kind === 'refused') throw outcome.error;
    }
  } finally {
    client.close();
  }
  return trusted.state();
}

async function enrol(
  config: AgentConfig,
  given: JoinString,
  desired: DesiredConfig,
  url: string,
  hostCsr: string,
  clock: Clock,
) {
  const api = createHostApi({
    replicas: () => [[url]],
    trust: () => ({ intermediates: anchorsOf(desired), trustDomain: desired.trustDomain }),
    identity: () => {
      throw new MeshError('NOT_JOINED', 'no SVID yet');
    },
    now: () => clock.now(),
  });
  const addresses = config.addresses.length > 0 ? config.addresses : globalAddresses();
  try {
    const answer = await api.enrol(url, {
      token: given.token,
      secret: given.secret,
      hostCsr,
      gossipAddresses: addresses.slice(0, 8).map((address) => formatEndpoint({ address, port: config.ports.gossip })),
      clock: clock.now(),
    });
    if (answer.host !== given.host || typeof answer.hostSvid !== 'string')
      throw new MeshError('SVID_INVALID', `the controller enrolled ${answer.host}, not ${given.host}`);
    return answer;
  } finally {
    api.close();
  }
}

function checkSvid(
  chainPem: string,
  config: AgentConfig,
  desired: DesiredConfig,
  key: ReturnType<typeof newKey>,
  clock: Clock,
): void {
  const [leaf] = parseChain(chainPem);
  const trusted = anchorsOf(desired).map((pem) => new X509Certificate(pem));
  const seen = verifySvid(leaf as X509Certificate, { trusted, trustDomain: desired.trustDomain, now: clock.now() });
  if (seen.spiffeId !== hostSpiffeId(desired.trustDomain, config.host) || !leaf?.checkPrivateKey(key))
    throw new MeshError('SVID_INVALID', `the controller issued ${seen.spiffeId} for another host or key`);
}

function configBytes(state: TrustedState): number {
  return fullUpdate(state)?.length ?? 0;
}

function anchorsOf(desired: DesiredConfig): string[] {
  return [...desired.anchors.values()].map((anchor) => anchor.intermediatePem);
}

/** Mode and owner of agent.yaml stay as they are. */
async function replaceConfig(path: string, text: string): Promise<void> {
  const { mode, uid, gid } = await stat(path);
  try {
    await writeFileAtomic(path, text, mode & 0o777);
    if (process.getuid?.() === 0) await chown(path, uid, gid);
  } catch (cause) {
    throw new MeshError('JOIN_CONFIG', `cannot complete ${path}`, { cause });
  }
}

/** Reads a join string from a file that only its owner may read. Throws JOIN_STRING_INVALID. */
export async function readJoinFile(path: string): Promise<string> {
  const info = await stat(path).catch((cause) => {
    throw new MeshError('JOIN_STRING_INVALID', 'cannot read the join string', { cause });
  });
  if (!info.isFile()) throw new MeshError('JOIN_STRING_INVALID', `${path} is no file that holds a join string`);
  const { mode, size } = info;
  if ((mode & 0o077) !== 0)
    throw new MeshError('JOIN_STRING_INVALID', `${path} holds a secret and others may read it; run: chmod 600 ${path}`);
  if (size > 16_384) throw new MeshError('JOIN_STRING_INVALID', `${path} is too long for a join string`);
  return await readFile(path, 'utf8');
}

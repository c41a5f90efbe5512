import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { errorLine, hasCode, MeshError } from '../../api/errors.ts';
import { delay } from '../../runtime/clock.ts';
import { createExec, type Exec } from '../host/exec.ts';
import { createSockets, type Sockets } from '../host/sockets.ts';
import { createUsers, type Users } from '../host/users.ts';
import { type ApplyDeps, applyRedirect, cleanRedirect, readAll, upToDate, usableFamilies } from './apply.ts';
import { parseRedirectArguments, REDIRECT_USAGE, type RedirectVerb } from './arguments.ts';
import { detectBackend } from './backend.ts';
import { REDIRECT_FILES } from './client.ts';
import { readOwn, readUntrusted, writeUntrusted } from './files.ts';
import { checkListeners, judgeInbound } from './listeners.ts';
import { askForOrder, orderUnits, wantedOf } from './order.ts';
import { planText } from './plan.ts';
import { neverPorts, permit, type RedirectPolicy } from './policy.ts';
import { readResolved, resolvedStands, resolverOf } from './resolved.ts';
import type { RedirectResult } from './result.ts';
import { readLo } from './routes.ts';
import { renderRules } from './rules.ts';
import { isCidr, MAX_SPEC_BYTES, parseSpec, type RedirectSpec, specHash } from './spec.ts';
import { loadState, openStateDir, saveStatus } from './state.ts';
import { TABLES } from './tables.ts';

/** The part of agent.yaml that redirection needs; AgentConfig fits. */
export interface RedirectConfig {
  readonly runDir: string;
  readonly workloads: readonly {
    readonly group: string;
    readonly user: string;
    readonly portOwners: readonly string[];
    readonly execProbes: readonly (readonly string[])[];
  }[];
  readonly defaultNamespace: string;
  readonly ports: Readonly<
    Record<'outbound' | 'inbound' | 'metrics' | 'readiness' | 'dns' | 'envoyMetrics' | 'gossip', number>
  >;
  readonly redirect: {
    readonly enabled: boolean;
    readonly onProxyFailure: 'closed' | 'bypass';
    readonly loopbackAllow: readonly string[];
    readonly excludeCidrs: readonly string[];
    readonly excludePorts: readonly number[];
  };
  readonly dns: { readonly enabled: boolean };
  readonly proxyUser: string;
  readonly agentUser: string;
}

/** What redirectCommand is given by main.ts: the parser of agent.yaml, and, in tests, other hands. */
export interface CommandDeps {
  readonly parseConfig: (text: string, file: string) => RedirectConfig;
  readonly exec?: Exec;
  readonly sockets?: Sockets;
  readonly users?: Users;
  readonly print?: (text: string) => void;
  /** argv of a process that runs `redirect ...` again, for the revert timer. Default: this program. */
  readonly self?: readonly string[];
}

const DEFAULT_REVERT_SECONDS = 60;
const MAX_CONFIG_BYTES = 1 << 20;

interface Run {
  readonly verb: RedirectVerb;
  readonly config: RedirectConfig;
  readonly configPath: string;
  readonly spec: string;
  readonly result: string;
  readonly confirm: string;
  readonly revertAfterMs: number;
  readonly id: string;
  readonly dryRun: boolean;
  readonly apply: ApplyDeps;
  readonly users: Users;
  readonly print: (text: string) => void;
}

/**
 * `mesh-agent redirect ...`, the root oneshot. Returns the exit code: 0 done (check: rules stand), 1 failed or refused (check: they do
 * not), 64 usage, 78 agent.yaml is invalid. `argv`: what follows `redirect`. Never throws.
 */
export async function redirectCommand(argv: readonly string[], deps: CommandDeps): Promise<number> {
  const print = deps.print ?? ((text) => void process.stdout.write(text));
  if (argv.includes('--help') || argv.includes('-h')) {
    print(`${REDIRECT_USAGE}\n`);
    return 0;
  }
  let run: Run;
  try {
    run = await prepare(argv, deps, print);
  } catch (error) {
    print(`mesh-agent redirect: ${errorLine(error)}\n`);
    if (error instanceof MeshError && error.code === 'USAGE') {
      print(`\n${REDIRECT_USAGE}\n`);
      return 64;
    }
    return error instanceof MeshError && /^(CONFIG_|REDIRECT_FILE|USER_UNKNOWN)/.test(error.code) ? 78 : 1;
  }
  try {
    return await VERBS[run.verb](run);
  } catch (error) {
    print(`mesh-agent redirect ${run.verb}: ${errorLine(error)}\n`);
    return 1;
  }
}

const VERBS: Readonly<Record<RedirectVerb, (run: Run) => Promise<number>>> = {
  apply: (run) => (run.dryRun ? plan(run) : apply(run)),
  clean: (run) => clean(run, 'cleaned'),
  plan,
  check,
  confirm,
  revert,
  'proxy-failed': proxyFailed,
  'dns-off': dnsOff,
  order,
};

async function prepare(argv: readonly string[], deps: CommandDeps, print: (text: string) => void): Promise<Run> {
  const { values, verb } = parseRedirectArguments(argv);
  const configPath = values.config ?? '/etc/mesh/agent.yaml';
  if (process.getuid?.() !== 0)
    throw new MeshError('REDIRECT_PRIVILEGE', "needs root: it reads and writes the kernel's rules");
  const config = await readConfig(verb, configPath, deps, print);
  const exec = deps.exec ?? createExec();
  const folder = join(config.runDir, 'redirect');
  const stateDir = values['state-dir'] ?? `${config.runDir.replace(/\/+$/, '')}-redirect`;
  const self = deps.self ?? [process.execPath, ...process.execArgv, process.argv[1] ?? '', 'redirect'];
  const startRevert = (id: string, ms: number) => {
    const args = [
      'revert',
      '--config',
      configPath,
      '--state-dir',
      stateDir,
      '--id',
      id,
      '--revert-after',
      String(ms / 1000),
    ];
    if (values.result !== undefined) args.push('--result', values.result);
    spawn(self[0] ?? '', [...self.slice(1), ...args], { detached: true, stdio: 'ignore' }).unref();
  };
  const revertSeconds = Number(values['revert-after'] ?? DEFAULT_REVERT_SECONDS);
  if (!(revertSeconds >= 0 && revertSeconds <= 86_400))
    throw new MeshError('USAGE', '--revert-after: 0 to 86400 seconds');
  return {
    verb,
    config,
    configPath,
    spec: values.spec ?? join(folder, REDIRECT_FILES.spec),
    result: values.result ?? join(folder, REDIRECT_FILES.result),
    confirm: join(folder, REDIRECT_FILES.confirm),
    revertAfterMs: revertSeconds * 1000,
    id: values.id ?? '',
    dryRun: values['dry-run'] ?? false,
    apply: { exec, sockets: deps.sockets ?? createSockets(), stateDir, now: Date.now, startRevert },
    users: deps.users ?? createUsers({ exec }),
    print,
  };
}

/** Rules must be removable with an agent.yaml that is gone or broken: clean-up then works with the default folders. */
async function readConfig(
  verb: RedirectVerb,
  path: string,
  deps: CommandDeps,
  print: (text: string) => void,
): Promise<RedirectConfig> {
  try {
    return deps.parseConfig(await readOwn(path, MAX_CONFIG_BYTES), path);
  } catch (error) {
    if (verb !== 'clean') throw error;
    print(`mesh-agent redirect clean: going on without agent.yaml: ${errorLine(error)}\n`);
    return DEFAULTS;
  }
}

const DEFAULTS: RedirectConfig = {
  runDir: '/run/mesh',
  workloads: [],
  defaultNamespace: 'default',
  ports: { outbound: 0, inbound: 0, metrics: 0, readiness: 0, dns: 0, envoyMetrics: 0, gossip: 0 },
  redirect: { enabled: true, onProxyFailure: 'closed', loopbackAllow: [], excludeCidrs: [], excludePorts: [] },
  dns: { enabled: true },
  proxyUser: 'mesh-proxy',
  agentUser: 'mesh-agent',
};

async function apply(run: Run): Promise<number> {
  const started = performance.now();
  if (!run.config.redirect.enabled) return clean(run, 'cleaned');
  let spec: RedirectSpec | undefined;
  try {
    const asked = await readSpec(run);
    spec = asked;
    const policy = await policyOf(run);
    const confirmedId = await readConfirmed(run, policy.agentUid);
    const permitted = permit(asked, policy);
    const outcome = await applyRedirect(run.apply, permitted, {
      agentUid: policy.agentUid,
      revertAfterMs: run.revertAfterMs,
      confirmedId,
    });
    await report(run, { ...outcome, status: 'applied' }, started, spec);
    run.print(
      `redirect: ${outcome.changed ? 'rules written' : 'no change'} (${outcome.backend}, ${outcome.families.join(' and ')})\n`,
    );
    // A unit that runs as another user now has its commands run as that one: root's other oneshot, which may write units, is asked to look again.
    if (run.config.workloads.some(({ execProbes }) => execProbes.length > 0))
      await wantedOf(run.config, run.users)
        .then((wanted) => askForOrder(run.apply.exec, wanted))
        .catch((error: unknown) => run.print(`redirect: ${errorLine(error)}\n`));
    return 0;
  } catch (error) {
    const code = error instanceof MeshError ? error.code : 'REDIRECT_FAILED';
    const refused = ['REDIRECT_SPEC', 'REDIRECT_DENIED', 'REDIRECT_LISTENER', 'REDIRECT_FILE'].includes(code);
    const status = refused ? 'refused' : 'failed';
    const outcome = { status, changed: false, error: { code, message: errorLine(error) } } as const;
    await report(run, outcome, started, spec).catch((second: unknown) => run.print(`${errorLine(second)}\n`));
    throw error;
  }
}

/**
 * For mesh-proxy's OnFailure=: the proxy has failed for good. `closed`: the rules stay, connections are refused, nothing goes out in
 * plaintext. `bypass`: the rules go and the host works as without a mesh.
 */
async function proxyFailed(run: Run): Promise<number> {
  if (run.config.redirect.onProxyFailure === 'bypass') return clean(run, 'cleaned');
  run.print('redirect: the proxy has failed; the rules stay (onProxyFailure: closed)\n');
  return 0;
}

/** For mesh-agent's OnFailure=: nobody answers DNS any more, so its rules go; the others stay. The agent's next request brings them back. */
async function dnsOff(run: Run): Promise<number> {
  const started = performance.now();
  const spec = await readSpec(run);
  const policy = await policyOf(run);
  const without = { ...permit(spec, policy), dns: false };
  const options = { agentUid: policy.agentUid, revertAfterMs: 0, trustListeners: true, onlyIfStanding: true };
  const outcome = await applyRedirect(run.apply, without, options).catch((error: unknown) => {
    if (!hasCode(error, 'REDIRECT_NONE')) throw error;
  });
  if (outcome === undefined) {
    run.print('redirect: no rule stands, DNS is not captured\n');
    return 0;
  }
  // The request is another one than was asked for: its id is not echoed.
  await report(run, { ...outcome, status: 'applied' }, started);
  run.print(`redirect: DNS is ${outcome.changed ? 'no longer' : 'not'} captured\n`);
  return 0;
}

async function clean(run: Run, status: 'cleaned' | 'reverted'): Promise<number> {
  const started = performance.now();
  const unless =
    status === 'reverted'
      ? (state: { revert?: { id: string } } | undefined) => state?.revert?.id !== run.id
      : undefined;
  const { changed, warnings } = await cleanRedirect(run.apply, unless);
  if (unless !== undefined && !changed) return 0;
  const spec = await readSpec(run).catch(() => undefined);
  await report(run, { status, changed, warnings }, started, spec);
  run.print(`redirect: ${changed ? 'rules, routes and address removed' : 'nothing of ours was there'}\n`);
  return 0;
}

/** For mesh-order.service. */
async function order(run: Run): Promise<number> {
  run.print(await orderUnits(run.apply.exec, await wantedOf(run.config, run.users), run.dryRun));
  return 0;
}

async function plan(run: Run): Promise<number> {
  run.print(await orderUnits(run.apply.exec, await wantedOf(run.config, run.users), true));
  const policy = await policyOf(run);
  const spec = permit(await readSpec(run), policy);
  const [backend, families] = await Promise.all([detectBackend(run.apply.exec), usableFamilies(spec.families)]);
  const saves = new Map(
    await Promise.all(families.map(async (family) => [family, await backend.save(family)] as const)),
  );
  const { captured, uncaptured } = await judgeInbound(run.apply.sockets, spec);
  run.print(planText(captured, saves, await run.apply.sockets.listeners(), uncaptured));
  await checkListeners(run.apply.sockets, captured, families, policy.agentUid).catch((error: unknown) =>
    run.print(`# apply would refuse now: ${errorLine(error)}\n`),
  );
  return 0;
}

/** Compares kernel and spec without writing: for timers, `doctor` and tests. */
async function check(run: Run): Promise<number> {
  const spec = permit(await readSpec(run), await policyOf(run));
  await openStateDir(run.apply.stateDir);
  const [backend, families] = await Promise.all([detectBackend(run.apply.exec), usableFamilies(spec.families)]);
  const [tables, state] = await Promise.all([readAll(backend, families), loadState(run.apply.stateDir)]);
  const { captured } = await judgeInbound(run.apply.sockets, spec);
  const stale: string[] = [];
  for (const family of families)
    for (const name of TABLES) {
      const wanted = renderRules(captured, family).get(name)!;
      if (!upToDate(tables.get(family)!.get(name)!, wanted, state?.applied[`${family}/${name}`]))
        stale.push(`${family}/${name}`);
    }
  if (!resolvedStands(await readResolved(run.apply.exec), resolverOf(captured))) stale.push('systemd-resolved');
  if ((await readLo(run.apply.exec, families)).address !== families.includes('v6')) stale.push('lo/::6');
  run.print(
    stale.length === 0
      ? 'redirect: the rules stand as asked for\n'
      : `redirect: differs from what was asked for: ${stale.join(', ')}\n`,
  );
  return stale.length === 0 ? 0 : 1;
}

/** An operator's confirmation, in place of the agent's. */
async function confirm(run: Run): Promise<number> {
  const state = await loadState(run.apply.stateDir);
  if (state?.revert === undefined) throw new MeshError('REDIRECT_NO_REVERT', 'no revert timer runs');
  await writeUntrusted(run.confirm, JSON.stringify({ id: state.revert.id }));
  run.print('redirect: confirmed; the rules stay\n');
  return 0;
}

/** The revert timer itself: a process of its own that waits, looks for the confirmation, and cleans up when there is none. */
async function revert(run: Run): Promise<number> {
  await delay(run.revertAfterMs);
  const { agentUid } = await policyOf(run);
  if ((await readConfirmed(run, agentUid)) === run.id) return 0;
  return clean(run, 'reverted');
}

async function readSpec(run: Run): Promise<RedirectSpec> {
  const agentUid = await run.users.uid(run.config.agentUser);
  const text = await readUntrusted(run.spec, MAX_SPEC_BYTES, new Set([0, agentUid]));
  if (text === undefined)
    throw new MeshError('REDIRECT_SPEC', `${run.spec}: the agent has not asked for any rules yet`);
  return parseSpec(text);
}

async function readConfirmed(run: Run, agentUid: number): Promise<string | undefined> {
  try {
    const text = await readUntrusted(run.confirm, 4096, new Set([0, agentUid]));
    const id = text === undefined ? undefined : (JSON.parse(text) as { id?: unknown }).id;
    return typeof id === 'string' ? id : undefined;
  } catch {
    return undefined; // what cannot be read confirms nothing
  }
}

async function policyOf(run: Run): Promise<RedirectPolicy> {
  const { config, users } = run;
  // A bound user that does not exist yet has nothing to capture; the agent reports it.
  const known = (name: string) => users.uid(name).catch(ignoreUnknown);
  const uids = async (names: readonly string[]) =>
    new Set((await Promise.all(names.map(known))).filter((uid) => uid !== undefined));
  for (const cidr of config.redirect.excludeCidrs)
    if (!isCidr(cidr)) throw new MeshError('REDIRECT_DENIED', `agent.yaml, redirect.excludeCidrs: ${cidr} is no CIDR`);
  const [proxyUid, agentUid, workloadUids, portOwnerUids, loopbackAllowUids] = await Promise.all([
    users.uid(config.proxyUser),
    users.uid(config.agentUser),
    uids(config.workloads.map((w) => w.user)),
    uids(config.workloads.flatMap((w) => w.portOwners)),
    uids(config.redirect.loopbackAllow),
  ]);
  return {
    proxyUid,
    agentUid,
    workloadUids,
    portOwnerUids,
    loopbackAllowUids,
    outboundPort: config.ports.outbound,
    inboundPort: config.ports.inbound,
    dnsPort: config.ports.dns,
    dnsEnabled: config.dns.enabled,
    neverPorts: neverPorts(config),
    excludeCidrs: config.redirect.excludeCidrs,
    namespaces: new Set([...config.workloads.map((w) => w.group.split('/')[0] ?? ''), config.defaultNamespace]),
  };
}

function ignoreUnknown(error: unknown): undefined {
  if (!hasCode(error, 'USER_UNKNOWN')) throw error;
}

async function report(
  run: Run,
  part: Partial<RedirectResult> & Pick<RedirectResult, 'status' | 'changed'>,
  started: number,
  spec?: RedirectSpec,
): Promise<void> {
  const result: RedirectResult = {
    version: 1,
    requestId: spec?.requestId ?? '',
    specHash: spec === undefined ? '' : specHash(spec),
    families: [],
    uncaptured: [],
    rootSockets: [],
    warnings: [],
    ...part,
    durationMs: Math.round(performance.now() - started),
  };
  // neither keeps the other from being written
  await saveStatus(run.apply.stateDir, part.status).catch((error: unknown) => run.print(`${errorLine(error)}\n`));
  await writeUntrusted(run.result, `${JSON.stringify(result)}\n`);
}

/**
 * How the lab calls the mesh's programs: command lines, environment, users, config files. One place, so that a change of a flag is one
 * line here; tests put fakes in the place of these. Pure.
 */
import { stringify } from 'yaml';
import { ADMIN_API } from '../../../api/http/admin-api.ts';
import { type HostPaths, LAB_DIR, pathsOf, TREE } from './paths.ts';
import { type Node, type PlannedHost, PORTS, TRUST_DOMAIN } from './plan.ts';
import type { RestartPolicy } from './restart-policy.ts';
import type { HeldSocket, SupervisorSpec } from './supervisor-spec.ts';

export interface Command {
  readonly argv: readonly string[];
  readonly user?: string;
  readonly env: Readonly<Record<string, string>>;
}

/** What the lab runs. The real ones are `meshPrograms`. */
export interface Programs {
  readonly controllerConfig: (node: Node, paths: HostPaths) => string;
  readonly controllerInit: (node: Node, paths: HostPaths) => Command;
  readonly controllerRun: (node: Node, paths: HostPaths) => Command;
  readonly agentConfig: (host: PlannedHost, paths: HostPaths, controllers: readonly Node[]) => string;
  readonly agentJoin: (host: PlannedHost, paths: HostPaths) => Command;
  readonly agentRun: (host: PlannedHost, paths: HostPaths) => Command;
  readonly proxyRun: (host: PlannedHost, paths: HostPaths) => Command & { readonly needs: string };
  readonly redirect: (
    verb: 'apply' | 'clean' | 'dns-off' | 'proxy-failed',
    host: PlannedHost,
    paths: HostPaths,
  ) => Command;
}

/** packaging/systemd's figures. */
const RESTART: RestartPolicy = { delayMs: 100, burst: 4, intervalMs: 30_000, preventStatus: [64, 78] };
/** A proxy is tried longer: without it the host's workloads have no traffic at all. */
const PROXY_RESTART: RestartPolicy = { ...RESTART, burst: 20, preventStatus: [] };
const NODE = `${TREE}/build/node/bin/node`;
const BASE_ENV = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LC_ALL: 'C.UTF-8',
  HOME: '/nonexistent',
};
/**
 * The packages have one bundled file a program. From source Node strips types at each start, which costs 0.2 s and 25 MB unless it may keep
 * what it made: root in the one folder, mesh-agent in the other.
 */
export const COMPILE_CACHE = { root: 'build/cache/root', agent: 'build/cache/agent' } as const;
const ROOT_ENV = { ...BASE_ENV, NODE_COMPILE_CACHE: `${TREE}/${COMPILE_CACHE.root}` };
const AGENT_ENV = { ...BASE_ENV, NODE_COMPILE_CACHE: `${TREE}/${COMPILE_CACHE.agent}` };

const agent = (...args: string[]) => [NODE, '--max-semi-space-size=1', `${TREE}/agent/main.ts`, ...args];
const controller = (...args: string[]) => [NODE, `${TREE}/controller/main.ts`, ...args];

export const meshPrograms: Programs = {
  controllerConfig: (node, paths) =>
    stringify({
      trustDomain: TRUST_DOMAIN,
      addresses: [node.ip4, node.ip6],
      replica: node.name.replace('ctl', 'c'),
      stateDir: paths.stateDir,
    }),
  controllerInit: (_node, paths) => ({
    argv: controller('init', '--config', paths.config),
    user: 'mesh-controller',
    env: BASE_ENV,
  }),
  controllerRun: (_node, paths) => ({
    argv: controller('run', '--config', paths.config),
    user: 'mesh-controller',
    env: BASE_ENV,
  }),
  agentConfig: (host, paths, controllers) =>
    stringify({
      host: host.name,
      trustDomain: TRUST_DOMAIN,
      controllers: controllers.map((c) => `https://${c.ip4}:${PORTS.agents}`),
      stateDir: paths.stateDir,
      runDir: paths.runDir,
      workloads: host.bindings.map(({ group, user }) => ({ group, user })),
      ...(host.gateways.length === 0 ? {} : { gateways: host.gateways }),
      ...(host.locality === '' ? {} : { locality: host.locality }),
    }),
  agentJoin: (_host, paths) => ({ argv: agent('join', '--config', paths.config), env: ROOT_ENV }),
  agentRun: (_host, paths) => ({ argv: agent('run', '--config', paths.config), user: 'mesh-agent', env: AGENT_ENV }),
  proxyRun: (_host, paths) => {
    const bootstrap = `${paths.stateDir}/proxy/bootstrap.json`;
    const argv = [
      `${TREE}/build/envoy/envoy`,
      '-c',
      bootstrap,
      '--log-level',
      'warning',
      '--disable-hot-restart',
      '--concurrency',
      '2',
      '--drain-time-s',
      '5',
    ];
    return { argv, user: 'mesh-proxy', env: BASE_ENV, needs: bootstrap };
  },
  redirect: (verb, _host, paths) => ({ argv: agent('redirect', verb, '--config', paths.config), env: ROOT_ENV }),
};

/** DNS sockets of a host: UDP and TCP, both families, for each namespace of its workloads; named as packaging/systemd's socket unit names them. */
export function dnsSockets(host: PlannedHost): HeldSocket[] {
  return host.namespaces.flatMap((_namespace, index) =>
    ['127.0.0.1', '::1'].flatMap((address) =>
      (['udp', 'tcp'] as const).map((type) => ({
        type,
        address,
        port: PORTS.dns + index,
        name: `dns-${PORTS.dns + index}`,
      })),
    ),
  );
}

export function hostSupervisor(programs: Programs, host: PlannedHost): SupervisorSpec {
  const paths = pathsOf(host.name);
  const sockets = dnsSockets(host);
  const proxy = programs.proxyRun(host, paths);
  const redirect = (verb: Parameters<Programs['redirect']>[0]) => {
    const { argv, env } = programs.redirect(verb, host, paths);
    return { argv, env, log: `${paths.logDir}/redirect.log` };
  };
  const unit = (command: Command, name: string) => ({
    ...command,
    log: `${paths.logDir}/${name}.log`,
    restart: RESTART,
    stopTimeoutMs: 10_000,
    fdNames: [],
  });
  return {
    name: host.name,
    control: paths.control,
    sockets,
    units: {
      agent: {
        ...unit(programs.agentRun(host, paths), 'agent'),
        fdNames: sockets.map((s) => s.name),
        onFailure: redirect('dns-off'),
      },
      proxy: {
        ...unit(proxy, 'proxy'),
        needs: proxy.needs,
        capabilities: ['net_bind_service'],
        restart: PROXY_RESTART,
        onFailure: redirect('proxy-failed'),
      },
    },
    oneshot: { ...redirect('apply'), path: `${paths.runDir}/redirect/spec.json` },
    leave: { socket: `${paths.runDir}/admin.sock`, path: ADMIN_API.leave, clean: redirect('clean') },
    runDir: paths.runDir,
  };
}

export function controllerSupervisor(programs: Programs, node: Node): SupervisorSpec {
  const paths = pathsOf(node.name);
  const run = programs.controllerRun(node, paths);
  return {
    name: node.name,
    control: paths.control,
    sockets: [],
    units: {
      controller: {
        ...run,
        log: `${paths.logDir}/controller.log`,
        restart: RESTART,
        stopTimeoutMs: 10_000,
        fdNames: [],
      },
    },
  };
}

/** Files that `env` names. */
export const OPERATOR = { token: `${LAB_DIR}/operator/token`, caFile: `${LAB_DIR}/operator/ca.pem` } as const;

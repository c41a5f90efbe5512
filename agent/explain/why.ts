/**
 * What one host's Envoy does with a call of one of its workloads, station by station, out of the config that this Envoy has. In: the call, look-ups.
 * Out: a Trace that names the object and field behind each decision. It never sends anything to where the call would go.
 */
import type { CallTarget, HttpCall, Origin, Step, Trace, WhyQuery } from '../../api/http/host-query.ts';
import { type ChainFound, type Connection, chainWords, findChain, lastFilter } from './chain.ts';
import { at, type Body } from './envoy-json.ts';
import { httpRoute } from './http-route.ts';
import { type RouteTarget, rewritten, targetWords, weightedOf } from './route.ts';
import { byObjects, type Caller, type Found, stepOf, type Way, type WhySources, words } from './sources.ts';
import { clusterSteps } from './upstream.ts';

/** Walks a call. Rejects only when a look-up does (Envoy does not answer). */
export async function why(query: WhyQuery, sources: WhySources): Promise<Trace> {
  const walk = new Walk();
  const caller = walk.add(callerStep(query, sources));
  if (caller === undefined) return walk.trace();
  const address = caller.gateway ? undefined : walk.add(dnsStep(query, caller, sources));
  if (walk.stopped) return walk.trace(caller);
  if (!caller.gateway && walk.add(redirectionStep(query, caller, address, sources)) === undefined)
    return walk.trace(caller);
  const chain = walk.add(await listenerStep(query, caller, address, sources));
  if (chain === undefined) return walk.trace(caller);
  const way = walk.add(await routeStep(query, chain, sources));
  if (way === undefined || walk.stopped) return walk.trace(caller, way?.http);
  for (const { name, share, body } of way.clusters) {
    const found = await clusterSteps(
      { cluster: name, share, tcp: way.http === undefined, writtenAt: way.origin },
      sources,
    );
    walk.steps.push(...found.steps);
    if (found.target !== undefined) walk.targets.push(found.target);
    if (way.http !== undefined && way.route !== undefined) walk.http ??= rewritten(way.http, way.route, body);
  }
  return walk.trace(caller, walk.http ?? way.http);
}

class Walk {
  readonly steps: Step[] = [];
  readonly targets: CallTarget[] = [];
  http: HttpCall | undefined;

  add<T>({ step, found }: Found<T>): T | undefined {
    this.steps.push(step);
    return found;
  }

  get stopped(): boolean {
    return this.steps.at(-1)?.verdict === 'stop';
  }

  trace(caller?: Caller, http?: HttpCall): Trace {
    return {
      steps: this.steps,
      targets: this.targets,
      ...(caller === undefined ? {} : { peer: caller.spiffeId }),
      ...(http === undefined ? {} : { http }),
    };
  }
}

function callerStep({ workload }: WhyQuery, { callers }: WhySources): Found<Caller> {
  const list = callers.map((one) => one.group).join(', ') || 'none';
  const fitting = callers.filter(
    ({ group }) => workload === undefined || group === workload || group.endsWith(`/${workload}`),
  );
  const [found, ...others] = fitting;
  if (found === undefined)
    return {
      step: stepOf(
        'workload',
        'stop',
        workload === undefined
          ? 'this host runs no workload'
          : `this host runs no workload ${workload}: it has ${list}`,
      ),
    };
  if (others.length > 0)
    return { step: stepOf('workload', 'stop', `this host runs several workloads: say which one calls: ${list}`) };
  return {
    step: stepOf('workload', 'ok', `${found.group} as ${found.spiffeId}`, [{ object: `WorkloadGroup/${found.group}` }]),
    found,
  };
}

function dnsStep({ to }: WhyQuery, { namespace }: Caller, sources: WhySources): Found<string> {
  if (isAddress(to)) return { step: stepOf('dns', 'ok', `${to} is an address: no name is asked for`), found: to };
  const verdict = sources.lookup(namespace, to.toLowerCase().replace(/\.$/, ''));
  if (verdict.kind === 'nxdomain')
    return {
      step: stepOf(
        'dns',
        'stop',
        `${to} does not exist in the mesh's domain as ${namespace} sees it: NXDOMAIN`,
        [],
        ['no Service of that name, or its exportTo leaves this namespace out'],
      ),
    };
  if (verdict.kind === 'foreign')
    return {
      step: stepOf(
        'dns',
        'unsure',
        `${to} is no name of the mesh with an address of its own: the host's own resolvers answer`,
      ),
    };
  const { v4, v6, origins } = verdict;
  return {
    step: stepOf('dns', 'ok', `${to} is ${[...v4, ...v6].join(', ')} (the mesh's own address)`, byObjects(origins)),
    found: v4[0] ?? v6[0],
  };
}

/** True for an IPv4 or IPv6 address. */
export function isAddress(text: string): boolean {
  return /^\d{1,3}(\.\d{1,3}){3}$/.test(text) || text.includes(':');
}

function redirectionStep(
  { port }: WhyQuery,
  caller: Caller,
  address: string | undefined,
  sources: WhySources,
): Found<true> {
  const reason = sources.uncaptured(port, address);
  if (reason !== undefined)
    return {
      step: stepOf('redirection', 'unsure', `not led through Envoy: ${reason}; the connection goes straight there`),
    };
  return {
    step: stepOf('redirection', 'ok', `led to Envoy on port ${caller.outboundPort} by the workload's user`),
    found: true,
  };
}

interface ChainOfCall extends ChainFound {
  readonly connection: Connection;
}

async function listenerStep(
  query: WhyQuery,
  caller: Caller,
  address: string | undefined,
  sources: WhySources,
): Promise<Found<ChainOfCall>> {
  const name = caller.gateway ? `gateway_${query.port}` : `outbound_${caller.outboundPort}`;
  const listener = await sources.envoy.listener(name);
  if (listener?.body === undefined)
    return {
      step: stepOf(
        'listener',
        'stop',
        `Envoy has no listener ${name}: the connection is refused`,
        [],
        words(listener?.refused),
      ),
    };
  const connection = caller.gateway ? strangersOf(query) : connectionOf(query, address);
  const found = findChain(listener.body, connection);
  const { origins, refused } = sources.served('listener', name);
  if (found === undefined)
    return {
      step: stepOf(
        'listener',
        'stop',
        `no filter chain of ${name} takes it: the connection is closed`,
        byObjects(origins),
      ),
    };
  const details = [
    `matches ${found.byDefault ? 'nothing else: the default chain' : chainWords(found.chain)}`,
    ...(query.protocol === undefined && textsTell(found.chain)
      ? ['the protocol is found out by what the client sends: taken as HTTP here']
      : []),
    ...words(listener.refused ?? refused),
  ];
  return {
    step: stepOf('listener', 'ok', `listener ${name}, chain ${found.name || '(unnamed)'}`, [], details),
    found: { ...found, connection },
  };
}

function textsTell(chain: Body): boolean {
  return Array.isArray(at(chain, 'filter_chain_match').application_protocols);
}

/** Usual ports of HTTPS: what comes to a gateway there is TLS unless the question says otherwise. */
const HTTPS_PORTS = [443, 8443];

/** A connection to a gateway's own socket. */
function strangersOf({ port, protocol, to }: WhyQuery): Connection {
  const tls = protocol === 'tls' || (protocol === undefined && HTTPS_PORTS.includes(port));
  if (!tls) return { port, tls, protocols: protocol === 'tcp' ? [] : ['http/1.1'] };
  return { port, tls, protocols: ['h2', 'http/1.1'], ...(isAddress(to) ? {} : { serverName: to }) };
}

function connectionOf(query: WhyQuery, address: string | undefined): Connection {
  const { port, protocol, to } = query;
  const where = { port, ...(address === undefined ? {} : { address }) };
  if (protocol === 'tcp') return { ...where, tls: false, protocols: [] };
  if (protocol === 'tls') return { ...where, tls: true, protocols: [], ...(isAddress(to) ? {} : { serverName: to }) };
  return { ...where, tls: false, protocols: ['http/1.1', 'http/1.0'] };
}

async function routeStep(query: WhyQuery, call: ChainOfCall, sources: WhySources): Promise<Found<Way>> {
  const { chain, connection } = call;
  const last = lastFilter(chain);
  if (last === undefined) return { step: stepOf('route', 'stop', 'the chain has no filter that leads anywhere') };
  if (last.kind === 'http') return await httpRoute(query, last.config, connection.tls, sources);
  if (last.kind === 'tcp') return tcpRoute(weightedOf(last.config), { origins: [] }, undefined);
  const config = at(await sources.envoy.extension(last.name), 'typed_config');
  return tcpRoute(weightedOf(config), sources.served('extension', last.name), last.name);
}

function tcpRoute(target: RouteTarget, served: ReturnType<WhySources['served']>, name: string | undefined): Found<Way> {
  if (target.kind !== 'clusters') return { step: stepOf('route', 'unsure', `bytes; ${targetWords(target)}`) };
  const rule = /_\.(tcp|tls)(\d+)\.(\d+)@/.exec(name ?? '');
  const virtualService = served.origins.find((key) => key.startsWith('VirtualService/'));
  const origin: Origin | undefined =
    virtualService === undefined
      ? undefined
      : { object: virtualService, path: rule === null ? 'spec.tcp' : `spec.${rule[1]}[${rule[2]}].match[${rule[3]}]` };
  const step = stepOf(
    'route',
    'ok',
    `bytes, to ${targetWords(target)}`,
    origin === undefined ? byObjects(served.origins) : [origin],
    words(served.refused),
  );
  return { step, found: { clusters: target.clusters, ...(origin === undefined ? {} : { origin }) } };
}

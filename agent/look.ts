/**
 * Answers to questions about this host (api/http/host-query.ts), asked by a controller for an operator, or over the admin socket. In: a parsed
 * question, this host's Envoy, the last run. Out: a bounded answer. Must never: answer with a key, or change anything but Envoy's log levels.
 */

import type { RefusedResource } from '../api/http/agent-api.ts';
import {
  type ConfigQuery,
  HOST_QUERY_LIMITS,
  type HostAnswer,
  type HostQuery,
  type ListenerRow,
  type ServiceAnswer,
} from '../api/http/host-query.ts';
import { createNames } from './dns/resolve.ts';
import type { DumpPart, EnvoyAdmin } from './envoy/admin.ts';
import { admit } from './explain/admit.ts';
import { at, type Body, type EnvoySource, listOf, maybe, textOf } from './explain/envoy-json.ts';
import { inRange } from './explain/matchers.ts';
import { targetWords, weightedOf } from './explain/route.ts';
import {
  clusterRows,
  endpointRows,
  hostState,
  listenerRows,
  type Made,
  routeRows,
  secretRows,
} from './explain/rows.ts';
import type { NameVerdict, ResourceKind, WhySources } from './explain/sources.ts';
import { why } from './explain/why.ts';
import { dnsHosts } from './mesh-view/dns-hosts.ts';
import { clientView } from './mesh-view/lookup.ts';
import type { Run } from './reconcile.ts';
import { TYPE_URLS } from './translate/resource-set.ts';
import { ALPN } from './translate/tls.ts';

export interface LookDeps {
  readonly host: string;
  readonly envoy: Pick<EnvoyAdmin, 'configDump' | 'clusterStatuses' | 'logLevels'>;
  last(): Run | undefined;
  refused(): readonly RefusedResource[];
  ackedGeneration(): number;
  readonly dnsEnabled: boolean;
  /** Why a connection to the port and address is not led through Envoy. */
  uncaptured(port: number, address: string | undefined): string | undefined;
  /** ms since the epoch. */
  now(): number;
}

export interface Look {
  /** Rejects with ENVOY_ADMIN when Envoy does not answer. */
  answer(query: HostQuery): Promise<HostAnswer>;
}

export function createLook(deps: LookDeps): Look {
  return {
    async answer(query) {
      const base = {
        host: deps.host,
        generation: deps.ackedGeneration(),
        at: new Date(deps.now()).toISOString(),
      };
      switch (query.ask) {
        case 'config':
          return { ...base, ...(await configAnswer(query, deps)) };
        case 'log':
          return { ...base, levels: await deps.envoy.logLevels(query.levels) };
        case 'why':
          return { ...base, trace: await why(query, sourcesOf(deps)) };
        case 'service':
          return { ...base, services: servicesOf(query.host, deps.last()) };
        case 'admit':
          return { ...base, trace: await admit(query, sourcesOf(deps), MESH_PROTOCOLS) };
      }
    },
  };
}

/** Enough for people; a service of thousands is looked at by `proxy-config endpoints`. */
const MAX_ENDPOINTS = 1000;

function servicesOf(host: string, run: Run | undefined): ServiceAnswer[] {
  const services = (run?.view.services ?? []).filter((service) => service.host === host.toLowerCase());
  return services.map(({ namespace, addresses, endpoints }) => ({
    namespace,
    addresses,
    endpoints: endpoints.slice(0, MAX_ENDPOINTS).map(({ id, addresses: own, health, labels, locality, ports }) => ({
      id,
      addresses: own,
      health,
      labels,
      locality,
      ports: Object.fromEntries(Object.entries(ports).map(([number, { port }]) => [number, port])),
    })),
  }));
}

const MESH_PROTOCOLS = { http: [ALPN.http2, ALPN.http], bytes: [ALPN.tcp] };

type Content = Pick<HostAnswer, 'rows' | 'resources' | 'left'>;

async function configAnswer(query: ConfigQuery, deps: LookDeps): Promise<Content> {
  const { part, filter, form } = query;
  if (part === 'secrets') {
    const of = async (active: boolean) =>
      (await deps.envoy.configDump(active ? 'dynamic_active_secrets' : 'dynamic_warming_secrets')).map((entry) => ({
        entry: entry as Body,
        active,
      }));
    const rows = secretRows([...(await of(true)), ...(await of(false))], filter, deps.now());
    return bounded(
      rows.map((row) => ({ row, resource: {} })),
      'rows',
    );
  }
  if (part === 'clusters') return await clustersOf(query, deps);
  return bounded(await madeOf(part, query, deps), form);
}

async function madeOf(part: 'listeners' | 'routes' | 'endpoints', { filter }: ConfigQuery, deps: LookDeps) {
  switch (part) {
    case 'listeners': {
      const dump = await bodiesOf(deps, 'dynamic_listeners', containing(filter.name));
      const extensions = new Map((await bodiesOf(deps, 'ecds_filters')).map((body) => [textOf(body, 'name'), body]));
      const target = (name: string) => `Cluster: ${targetWords(weightedOf(at(extensions.get(name), 'typed_config')))}`;
      return listenerRows(dump, target, filter) as Made<ListenerRow>[];
    }
    case 'routes':
      return routeRows(await bodiesOf(deps, 'dynamic_route_configs', containing(filter.name)), filter);
    case 'endpoints':
      return endpointRows((await deps.envoy.clusterStatuses(containing(filter.name ?? filter.fqdn))) as Body[], filter);
  }
}

/** What a row of a cluster is made of: a whole one has some 5 KB, and a mesh has thousands. */
const CLUSTER_FIELDS = ['cluster.name', 'cluster.type', 'cluster.cluster_type.name'];

async function clustersOf({ filter, form }: ConfigQuery, deps: LookDeps): Promise<Content> {
  const refused = deps.refused();
  const mask = form === 'rows' ? CLUSTER_FIELDS : undefined;
  const bodies = await bodiesOf(deps, 'dynamic_active_clusters', containing(filter.name ?? filter.fqdn), mask);
  return bounded(
    clusterRows(bodies, (name) => servedBy(deps, 'cluster', name, refused).origins, filter),
    form,
  );
}

/** Where each entry of a part keeps the resource itself. */
const INSIDE: Readonly<
  Record<Exclude<DumpPart, 'dynamic_active_secrets' | 'dynamic_warming_secrets'>, readonly string[]>
> = {
  dynamic_listeners: ['active_state', 'listener'],
  dynamic_route_configs: ['route_config'],
  dynamic_active_clusters: ['cluster'],
  ecds_filters: ['ecds_filter'],
};

async function bodiesOf(
  deps: LookDeps,
  part: keyof typeof INSIDE,
  nameRegex?: string,
  mask?: readonly string[],
): Promise<Body[]> {
  const entries = await deps.envoy.configDump(part, nameRegex, mask);
  return entries.map((entry) => maybe(entry, ...INSIDE[part])).filter((body) => body !== undefined);
}

/** As many as the answer may hold, and how many were left. */
function bounded(made: readonly Made<NonNullable<HostAnswer['rows']>[number]>[], form: 'rows' | 'full'): Content {
  const items: readonly unknown[] =
    form === 'rows' ? made.map(({ row }) => row) : [...new Set(made.map(({ resource }) => resource))];
  let bytes = 0;
  const fitting = items.findIndex((item) => {
    bytes += JSON.stringify(item).length + 1;
    return bytes > HOST_QUERY_LIMITS.answerBytes - 64 * 1024;
  });
  const taken = fitting < 0 ? items : items.slice(0, fitting);
  const left = items.length - taken.length;
  return {
    ...(form === 'rows' ? { rows: taken as HostAnswer['rows'] } : { resources: taken }),
    ...(left === 0 ? {} : { left }),
  };
}

function sourcesOf(deps: LookDeps): WhySources {
  const run = deps.last();
  return {
    callers: run?.view.workloads ?? [],
    envoy: envoySource(deps),
    lookup: (namespace, name) =>
      run === undefined || !deps.dnsEnabled ? { kind: 'foreign' } : lookup(run, namespace, name),
    uncaptured: (port, address) => deps.uncaptured(port, address),
    served: (kind, name) => servedBy(deps, kind, name),
    object: (key) => run?.desired.objects.get(key),
  };
}

/** What agent/dns answers, and whose addresses they are. */
function lookup({ view }: Run, namespace: string, name: string): NameVerdict {
  const verdict = createNames(dnsHosts(view)).lookup(namespace, name);
  if (verdict.kind !== 'addresses') return verdict;
  const [first] = [...verdict.v4, ...verdict.v6];
  const service = clientView(view, namespace).services.find(({ addresses }) => addresses.includes(first ?? ''));
  return { ...verdict, origins: service?.origins ?? [] };
}

function servedBy(
  deps: LookDeps,
  kind: ResourceKind,
  name: string,
  list: readonly RefusedResource[] = deps.refused(),
): ReturnType<WhySources['served']> {
  const typeUrl = TYPE_URLS[kind];
  const refused = list.find((one) => one.typeUrl === typeUrl && one.resource === name)?.message;
  const origins = deps.last()?.resources.resources[kind].get(name)?.origins ?? [];
  return { origins, ...(refused === undefined ? {} : { refused }) };
}

/** Asks the running Envoy, one small question a look-up. */
function envoySource(deps: LookDeps): EnvoySource {
  const one = async (part: keyof typeof INSIDE, name: string): Promise<Body | undefined> =>
    (await bodiesOf(deps, part, whole(name))).find((body) => textOf(body, 'name') === name);
  return {
    async listener(name) {
      const entries = (await deps.envoy.configDump('dynamic_listeners', whole(name))) as Body[];
      const entry = entries.find((candidate) => textOf(candidate, 'name') === name);
      if (entry === undefined) return undefined;
      const body = maybe(entry, 'active_state', 'listener');
      const refused = textOf(at(entry, 'error_state'), 'details');
      return { name, ...(body === undefined ? {} : { body }), ...(refused === '' ? {} : { refused }) };
    },
    route: (name) => one('dynamic_route_configs', name),
    extension: (name) => one('ecds_filters', name),
    cluster: (name) => one('dynamic_active_clusters', name),
    async hosts(cluster) {
      const statuses = (await deps.envoy.clusterStatuses(whole(cluster))) as Body[];
      const status = statuses.find((candidate) => textOf(candidate, 'name') === cluster);
      return status === undefined ? [] : listOf(status, 'host_statuses').map(hostState);
    },
  };
}

/** Envoy refuses an expression of more than some hundred characters; who asks compares the whole name anyway. */
const REGEX_CHARACTERS = 60;

/** An expression for names that hold `text`, or something like it. */
function containing(text: string | undefined): string | undefined {
  return text === undefined ? undefined : `.*${escapeRegex(text.slice(0, REGEX_CHARACTERS))}.*`;
}

/** An expression for one name, and for others that begin like it where it is long. */
function whole(name: string): string {
  return name.length <= REGEX_CHARACTERS
    ? `^${escapeRegex(name)}$`
    : `^${escapeRegex(name.slice(0, REGEX_CHARACTERS))}.*$`;
}

function escapeRegex(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** Why traffic to a port and address is not led through Envoy, by agent.yaml. `never`: ports that no rule leads away. */
export function captureRule(
  redirect: {
    readonly enabled: boolean;
    readonly excludeCidrs: readonly string[];
  },
  never: ReadonlySet<number>,
): LookDeps['uncaptured'] {
  return (port, address) => {
    if (!redirect.enabled) return 'agent.yaml switches the redirection off';
    if (never.has(port)) return `port ${port} is one that is never captured`;
    const excluded = redirect.excludeCidrs.find((cidr) => address !== undefined && within(cidr, address));
    return excluded === undefined ? undefined : `agent.yaml excludes ${excluded}`;
  };
}

function within(cidr: string, address: string): boolean {
  const [address_prefix = '', bits] = cidr.split('/');
  const prefix_len = bits === undefined ? (address_prefix.includes(':') ? 128 : 32) : Number(bits);
  return inRange({ address_prefix, prefix_len }, address);
}

import type { ResourceSet } from '../../../../agent/translate/resource-set.ts';

/** A call as Envoy meets it after the redirection. */
export interface Call {
  /** Outbound port of the calling workload's listener. */
  readonly listener: number;
  /** Or the listener of a gateway, e.g. `gateway_443`. */
  readonly gateway?: string;
  readonly address: string;
  readonly port: number;
  /** HTTP request, or undefined for bytes. */
  readonly http?: {
    readonly host: string;
    readonly path?: string;
    readonly headers?: Readonly<Record<string, string>>;
  };
  readonly sni?: string;
}

/** Where it goes: the clusters and their weights, or what answers in their place; `refused` when no chain takes it. */
export interface Outcome {
  readonly chain: string;
  readonly clusters?: Readonly<Record<string, number>>;
  readonly answer?: number;
  readonly redirect?: string;
}

// biome-ignore lint/suspicious/noExplicitAny: the bodies are Envoy's, and tests read what they name
type Body = any;

/** Asks the generated config where a call goes, by Envoy's own rules: chain by destination, TLS and protocol; virtual host by authority; first route. */
export function simulate(set: ResourceSet, call: Call): Outcome {
  const listener = set.resources.listener.get(call.gateway ?? `outbound_${call.listener}`)?.body as Body;
  const chain = listener === undefined ? undefined : bestChain(listener, call);
  if (chain === undefined) return { chain: 'refused' };
  const last = chain.filters.at(-1);
  if (last.config_discovery !== undefined) {
    const tcp = (set.resources.extension.get(last.name) as Body).body.typed_config;
    return { chain: chain.name, clusters: clustersOf(tcp, call.address) };
  }
  const { rds, early_header_mutation_extensions: early } = last.typed_config;
  const route = set.resources.route.get(rds.route_config_name)?.body as Body;
  const headers = { ...call.http?.headers, ...introduced(early) };
  return { chain: chain.name, ...routeOutcome(virtualHost(route, call.http?.host ?? ''), call, headers) };
}

/** Envoy's order: destination port, address (longest prefix), server name, transport, application protocol; without going back. */
function bestChain(listener: Body, call: Call): Body {
  let chains: Body[] = listener.filter_chains;
  const narrow = (specific: (match: Body) => number | undefined): void => {
    const scored = chains.map((chain) => ({ chain, score: specific(chain.filter_chain_match ?? {}) }));
    const usable = scored.filter((item) => item.score !== undefined);
    const best = Math.max(...usable.map((item) => item.score as number));
    chains = usable.filter((item) => item.score === best).map((item) => item.chain);
  };
  narrow((m) => (m.destination_port === undefined ? 0 : m.destination_port === call.port ? 1 : undefined));
  narrow((m) => (m.prefix_ranges === undefined ? 0 : longestPrefix(m.prefix_ranges, call.address)));
  narrow((m) => (m.server_names === undefined ? 0 : nameScore(m.server_names, call.sni)));
  narrow((m) => (m.transport_protocol === undefined ? 0 : call.sni !== undefined ? 1 : undefined));
  narrow((m) => (m.application_protocols === undefined ? 0 : call.http !== undefined ? 1 : undefined));
  return chains[0] ?? listener.default_filter_chain;
}

function longestPrefix(ranges: Body[], address: string): number | undefined {
  const lengths = ranges.filter((range) => inRange(address, range)).map((range) => range.prefix_len + 1);
  return lengths.length === 0 ? undefined : Math.max(...lengths);
}

function inRange(address: string, { address_prefix, prefix_len }: Body): boolean {
  const bits = (text: string) =>
    text.includes(':')
      ? expand(text)
          .map((group) => group.toString(2).padStart(16, '0'))
          .join('')
      : text
          .split('.')
          .map((byte) => Number(byte).toString(2).padStart(8, '0'))
          .join('');
  if (address.includes(':') !== address_prefix.includes(':')) return false;
  return bits(address).slice(0, prefix_len) === bits(address_prefix).slice(0, prefix_len);
}

function expand(text: string): number[] {
  const [head = '', tail = ''] = text.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === '' ? [] : tail.split(':');
  const zeros = text.includes('::') ? Array(8 - left.length - right.length).fill('0') : [];
  return [...left, ...zeros, ...right].map((group) => Number.parseInt(group, 16));
}

function nameScore(names: string[], sni: string | undefined): number | undefined {
  const scores = names
    .filter((name) => sni !== undefined && (name === sni || (name.startsWith('*') && sni.endsWith(name.slice(1)))))
    .map((name) => name.length);
  return scores.length === 0 ? undefined : Math.max(...scores);
}

function virtualHost(route: Body, authority: string): Body {
  const host = authority.replace(/:\d+$/, '');
  const hosts: Body[] = route.virtual_hosts;
  const exact = hosts.find((candidate) => candidate.domains.includes(host));
  const wild = hosts.find((c) =>
    c.domains.some((d: string) => d !== '*' && d.startsWith('*') && host.endsWith(d.slice(1))),
  );
  return exact ?? wild ?? hosts.find((candidate) => candidate.domains.includes('*'));
}

/** Headers that the connection manager writes before it looks for a route; formats stand as they are. */
function introduced(early: Body): Record<string, string> {
  const mutations: Body[] = early?.[0]?.typed_config.mutations ?? [];
  return Object.fromEntries(
    mutations.flatMap(({ append }) => (append === undefined ? [] : [[append.header.key, append.header.value]])),
  );
}

function routeOutcome(host: Body, call: Call, headers: Readonly<Record<string, string>>): Omit<Outcome, 'chain'> {
  if (host === undefined) return { answer: 404 };
  if (host.require_tls === 'ALL') return { redirect: 'https' };
  const path = call.http?.path ?? '/';
  const route = host.routes.find(({ match }: Body) => {
    const uri =
      match.path !== undefined ? path === match.path : match.prefix === undefined || path.startsWith(match.prefix);
    return uri && (match.headers ?? []).every((test: Body) => headerMatches(test, headers[test.name]));
  });
  if (route === undefined) return { answer: 404 };
  if (route.direct_response !== undefined) return { answer: route.direct_response.status };
  if (route.redirect !== undefined) return { redirect: route.redirect.path_redirect };
  return { clusters: clustersOf(route.route, call.address) };
}

function headerMatches(test: Body, value: string | undefined): boolean {
  const { exact, safe_regex } = test.string_match ?? {};
  const fits = safe_regex === undefined || new RegExp(`^(?:${safe_regex.regex})$`).test(value ?? '');
  const hit = value !== undefined && (exact === undefined || value === exact) && fits;
  return test.invert_match === true ? !hit : hit;
}

/** Matcher cluster specifier: the address as text, exactly, else by the longest prefix. */
function byAddress({ matcher_tree, on_no_match }: Body, address: string): string {
  const { exact_match_map, prefix_match_map } = matcher_tree ?? {};
  const prefixes = Object.keys(prefix_match_map?.map ?? {}).filter((prefix) => address.startsWith(prefix));
  const found = exact_match_map?.map[address] ?? prefix_match_map?.map[prefixes[0] ?? ''] ?? on_no_match;
  return found.matcher === undefined ? found.action.typed_config.cluster : byAddress(found.matcher, address);
}

function clustersOf(target: Body, address: string): Record<string, number> {
  if (target.inline_cluster_specifier_plugin !== undefined)
    return { [byAddress(target.inline_cluster_specifier_plugin.extension.typed_config.cluster_matcher, address)]: 100 };
  if (target.cluster !== undefined) return { [target.cluster]: 100 };
  return Object.fromEntries(target.weighted_clusters.clusters.map((c: Body) => [c.name, c.weight]));
}

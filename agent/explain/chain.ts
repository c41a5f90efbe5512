import { at, type Body, listOf, maybe, numberOf, textOf, textsOf } from './envoy-json.ts';
import { longestPrefix, nameScore } from './matchers.ts';

/** A connection as a listener's filters see it. */
export interface Connection {
  readonly port: number;
  /** Where it was going; undefined: somewhere that no chain names. */
  readonly address?: string;
  readonly tls: boolean;
  /** SNI. */
  readonly serverName?: string;
  /** By ALPN in TLS, by detection in plaintext; in the client's order. Empty: not told apart. */
  readonly protocols: readonly string[];
  readonly source?: string;
}

export interface ChainFound {
  readonly chain: Body;
  readonly name: string;
  /** True for default_filter_chain. */
  readonly byDefault: boolean;
  /** Chains that fit equally well by what is known of the connection: their sources tell them apart. */
  readonly others: number;
}

/**
 * The filter chain that takes a connection, by Envoy's order: destination port, address (longest prefix), server name, transport protocol,
 * application protocol, source; the most specific at each, without going back. Source: config.listener.v3.FilterChainMatch.
 */
export function findChain(listener: Body, connection: Connection): ChainFound | undefined {
  let chains = listOf(listener, 'filter_chains');
  const narrow = (score: (match: Body) => number | undefined): void => {
    const scored = chains.map((chain) => ({ chain, score: score(at(chain, 'filter_chain_match')) }));
    const usable = scored.filter((one) => one.score !== undefined);
    const best = Math.max(...usable.map((one) => one.score as number));
    chains = usable.filter((one) => one.score === best).map((one) => one.chain);
  };
  narrow((match) => {
    const port = numberOf(match, 'destination_port');
    return port === undefined ? 0 : port === connection.port ? 1 : undefined;
  });
  narrow((match) => {
    const ranges = listOf(match, 'prefix_ranges');
    if (ranges.length === 0) return 0;
    const bits = connection.address === undefined ? undefined : longestPrefix(ranges, connection.address);
    return bits === undefined ? undefined : bits + 1;
  });
  narrow((match) => {
    const names = textsOf(match, 'server_names');
    if (names.length === 0) return 0;
    return connection.serverName === undefined ? undefined : nameScore(names, connection.serverName.toLowerCase());
  });
  narrow((match) => {
    const transport = textOf(match, 'transport_protocol');
    return transport === '' ? 0 : transport === (connection.tls ? 'tls' : 'raw_buffer') ? 1 : undefined;
  });
  narrow((match) => {
    const protocols = textsOf(match, 'application_protocols');
    if (protocols.length === 0) return 0;
    const first = connection.protocols.findIndex((one) => protocols.includes(one));
    return first < 0 ? undefined : connection.protocols.length - first;
  });
  narrow((match) => {
    const ranges = listOf(match, 'source_prefix_ranges');
    if (ranges.length === 0 || connection.source === undefined) return 0;
    const bits = longestPrefix(ranges, connection.source);
    return bits === undefined ? undefined : bits + 1;
  });
  const [chain, ...others] = chains;
  if (chain !== undefined) return { chain, name: textOf(chain, 'name'), byDefault: false, others: others.length };
  const fallback = maybe(listener, 'default_filter_chain');
  if (fallback === undefined) return undefined;
  return { chain: fallback, name: textOf(fallback, 'name'), byDefault: true, others: 0 };
}

/** What a chain demands of a connection, for people. */
export function chainWords(chain: Body): string {
  const match = at(chain, 'filter_chain_match');
  const port = numberOf(match, 'destination_port');
  const addresses = listOf(match, 'prefix_ranges').map(rangeWords);
  const parts = [
    ...(addresses.length === 0 ? [] : [`Addr: ${few(addresses)}${port === undefined ? '' : `:${port}`}`]),
    ...(addresses.length === 0 && port !== undefined ? [`Port: ${port}`] : []),
    ...(textsOf(match, 'server_names').length === 0 ? [] : [`SNI: ${few(textsOf(match, 'server_names'))}`]),
    ...(textOf(match, 'transport_protocol') === '' ? [] : [`Trans: ${textOf(match, 'transport_protocol')}`]),
    ...(textsOf(match, 'application_protocols').length === 0
      ? []
      : [`App: ${few(textsOf(match, 'application_protocols'))}`]),
  ];
  return parts.length === 0 ? 'ALL' : parts.join('; ');
}

export function rangeWords(range: Body): string {
  const prefix = textOf(range, 'address_prefix');
  const bits = numberOf(range, 'prefix_len') ?? 0;
  return bits === (prefix.includes(':') ? 128 : 32) ? prefix : `${prefix}/${bits}`;
}

/** The first three, and how many more. */
export function few(texts: readonly string[]): string {
  return texts.length <= 3 ? texts.join(',') : `${texts.slice(0, 3).join(',')}, +${texts.length - 3} more`;
}

/** The filter that ends a chain: its HTTP connection manager, or the name or config of its TCP proxy. */
export function lastFilter(
  chain: Body,
):
  | { readonly kind: 'http'; readonly config: Body }
  | { readonly kind: 'tcp'; readonly config: Body }
  | { readonly kind: 'discovered'; readonly name: string }
  | undefined {
  const filter = listOf(chain, 'filters').at(-1);
  if (filter === undefined) return undefined;
  if (maybe(filter, 'config_discovery') !== undefined) return { kind: 'discovered', name: textOf(filter, 'name') };
  const config = at(filter, 'typed_config');
  return textOf(config, '@type').endsWith('.HttpConnectionManager')
    ? { kind: 'http', config }
    : { kind: 'tcp', config };
}

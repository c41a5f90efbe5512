/**
 * What may be asked of one host (docs/decisions/0014): a closed list of questions, and the shapes of their answers. meshctl asks a controller,
 * or the agent by its admin socket, with the same body; the controller relays it to the host's agent. A reader of untrusted bytes calls
 * parseHostQuery first. No answer ever holds a private key.
 */
import { MeshError } from '../errors.ts';
import type { ObjectKey } from '../resources/object.ts';

/** Parts of Envoy's config that `meshctl proxy-config` shows. */
export const CONFIG_PARTS = ['listeners', 'routes', 'clusters', 'endpoints', 'secrets'] as const;
export type ConfigPart = (typeof CONFIG_PARTS)[number];

/** Envoy's own log levels, the most talkative first. */
export const ENVOY_LOG_LEVELS = ['trace', 'debug', 'info', 'warning', 'error', 'critical', 'off'] as const;

/** What narrows an answer down; every one given must hold. */
export interface ConfigFilter {
  /** A resource's name, whole. */
  readonly name?: string;
  /** A service's host: whole, or a part of it that ends at a dot. */
  readonly fqdn?: string;
  readonly port?: number;
  readonly subset?: string;
  readonly direction?: 'inbound' | 'outbound';
  readonly address?: string;
  /** Of endpoints: `healthy` or `unhealthy`. */
  readonly status?: 'healthy' | 'unhealthy';
}

/** `rows`: one line a chain, route, cluster, endpoint, secret. `full`: Envoy's own JSON (of secrets: the rows). */
export interface ConfigQuery {
  readonly ask: 'config';
  readonly part: ConfigPart;
  readonly form: 'rows' | 'full';
  readonly filter: ConfigFilter;
}

/** A request as HTTP has it. `headers` by lower-case name. */
export interface HttpCall {
  readonly authority: string;
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** A call that a workload of the host would make. */
export interface WhyQuery {
  readonly ask: 'why';
  /** `NAMESPACE/NAME` or NAME of the WorkloadGroup; absent: the host's only one. */
  readonly workload?: string;
  /** Name or IP address, as the application would write it. */
  readonly to: string;
  readonly port: number;
  /** Absent: as the port's protocol has it; what an undeclared port speaks counts as HTTP. */
  readonly protocol?: 'http' | 'tcp' | 'tls';
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** A connection that a peer would make to a workload of the host. */
export interface AdmitQuery {
  readonly ask: 'admit';
  /** Port that the application listens on. */
  readonly port: number;
  /** SPIFFE ID of the caller; absent: plaintext. */
  readonly peer?: string;
  readonly source?: string;
  /** Absent: bytes. */
  readonly http?: HttpCall;
}

/** Envoy's log levels by logger; with `levels` they are set first: `{"": "debug"}` all, `{"http": "debug"}` one. Until Envoy restarts. */
export interface LogQuery {
  readonly ask: 'log';
  readonly levels?: Readonly<Record<string, string>>;
}

/** A service as the host sees it: its addresses, and who serves it by gossip and config. */
export interface ServiceQuery {
  readonly ask: 'service';
  /** Full name. */
  readonly host: string;
}

export type HostQuery = ConfigQuery | WhyQuery | AdmitQuery | LogQuery | ServiceQuery;

/** One definition of a service (each namespace may have its own). */
export interface ServiceAnswer {
  readonly namespace: string;
  readonly addresses: readonly string[];
  readonly endpoints: readonly {
    /** `HOST/NAMESPACE/GROUP` for what a host of the mesh serves. */
    readonly id: string;
    readonly addresses: readonly string[];
    readonly health: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly locality: string;
    /** Port at which it serves, by port of the service. */
    readonly ports: Readonly<Record<string, number>>;
  }[];
}

export interface ListenerRow {
  readonly listener: string;
  readonly address: string;
  readonly port: number;
  readonly match: string;
  readonly destination: string;
}

export interface RouteRow {
  readonly name: string;
  readonly virtualHost: string;
  readonly domains: readonly string[];
  readonly match: string;
  /** Cluster or clusters with weights, status, redirect. */
  readonly target: string;
  /** Object and field that wrote it; absent: the service itself. */
  readonly origin?: Origin;
}

export interface ClusterRow {
  readonly name: string;
  readonly fqdn: string;
  readonly port?: number;
  readonly subset: string;
  readonly direction: 'inbound' | 'outbound' | '';
  readonly type: string;
  readonly destinationRules: readonly ObjectKey[];
}

export interface EndpointRow {
  readonly endpoint: string;
  readonly status: string;
  readonly outlier: 'OK' | 'FAILED';
  readonly cluster: string;
  readonly locality: string;
  readonly priority: number;
  readonly weight: number;
}

export interface SecretRow {
  readonly name: string;
  readonly type: 'Cert Chain' | 'CA';
  readonly status: 'ACTIVE' | 'WARMING';
  readonly valid: boolean;
  readonly serial: string;
  /** RFC 3339. */
  readonly notAfter: string;
  readonly notBefore: string;
  readonly sans: readonly string[];
}

export type ConfigRow = ListenerRow | RouteRow | ClusterRow | EndpointRow | SecretRow;

/** An operator's object and the field of it that decided. */
export interface Origin {
  readonly object: ObjectKey;
  readonly path?: string;
}

export type StepName =
  | 'workload'
  | 'dns'
  | 'redirection'
  | 'listener'
  | 'route'
  | 'cluster'
  | 'endpoints'
  | 'inbound'
  | 'policy';

/** One station of a call. `stop`: it ends here; `unsure`: Envoy decides by what cannot be known beforehand. */
export interface Step {
  readonly step: StepName;
  readonly verdict: 'ok' | 'stop' | 'unsure';
  readonly summary: string;
  readonly details: readonly string[];
  readonly decidedBy: readonly Origin[];
}

/** Where a call may end up. */
export interface CallTarget {
  readonly cluster: string;
  /** Share in percent of the route's weights. */
  readonly share: number;
  readonly mtls: boolean;
  readonly endpoints: readonly { readonly address: string; readonly port: number; readonly healthy: boolean }[];
}

export interface Trace {
  readonly steps: readonly Step[];
  readonly targets: readonly CallTarget[];
  /** SPIFFE ID that the caller shows. */
  readonly peer?: string;
  /** The request as the route leaves it; absent: bytes. */
  readonly http?: HttpCall;
}

export interface HostAnswer {
  readonly host: string;
  /** Generation that the host's Envoy had acknowledged. */
  readonly generation: number;
  /** RFC 3339, the host's clock. */
  readonly at: string;
  readonly rows?: readonly ConfigRow[];
  readonly resources?: readonly unknown[];
  /** How many were left out for the answer's size: filter, please. */
  readonly left?: number;
  readonly trace?: Trace;
  readonly levels?: Readonly<Record<string, string>>;
  readonly services?: readonly ServiceAnswer[];
}

/** In bytes and ms. A question that was not answered in `answerWithinMs` is given up. */
export const HOST_QUERY_LIMITS = {
  queryBytes: 16 * 1024,
  answerBytes: 4 * 1024 * 1024,
  answerWithinMs: 15_000,
} as const;

const MAX_HEADERS = 50;
const NAME = /^[\x20-\x7e]{1,512}$/;
const HEADER = /^[!#$%&'*+.^_`|~0-9a-z-]{1,128}$/;
const LOGGER = /^[a-z0-9_]{1,64}$/;

/** A question in a body that anybody may have sent. Throws QUERY_INVALID, naming the field; unknown fields are refused. */
export function parseHostQuery(body: unknown): HostQuery {
  const from = record(body, 'query');
  switch (from.ask) {
    case 'config':
      return configQuery(only(from, ['ask', 'part', 'form', 'filter']));
    case 'why':
      return whyQuery(only(from, ['ask', 'workload', 'to', 'port', 'protocol', 'method', 'path', 'headers']));
    case 'admit':
      return admitQuery(only(from, ['ask', 'port', 'peer', 'source', 'http']));
    case 'log':
      return logQuery(only(from, ['ask', 'levels']));
    case 'service':
      return { ask: 'service', host: printable(only(from, ['ask', 'host']).host, 'host') };
    default:
      throw invalid('ask', 'one of config, why, admit, log, service');
  }
}

/** True for a question that changes something on the host. */
export function isChange(query: HostQuery): boolean {
  return query.ask === 'log' && query.levels !== undefined;
}

function configQuery(from: Fields): ConfigQuery {
  const given = only(record(from.filter ?? {}, 'filter'), FILTERS);
  const filter: ConfigFilter = {
    ...optional('name', given, printable),
    ...optional('fqdn', given, printable),
    ...optional('port', given, portOf),
    ...optional('subset', given, printable),
    ...optional('direction', given, (value, path) => oneOf(value, path, ['inbound', 'outbound'] as const)),
    ...optional('address', given, printable),
    ...optional('status', given, (value, path) => oneOf(value, path, ['healthy', 'unhealthy'] as const)),
  };
  return {
    ask: 'config',
    part: oneOf(from.part, 'part', CONFIG_PARTS),
    form: oneOf(from.form ?? 'rows', 'form', ['rows', 'full'] as const),
    filter,
  };
}

const FILTERS = ['name', 'fqdn', 'port', 'subset', 'direction', 'address', 'status'];

function whyQuery(from: Fields): WhyQuery {
  return {
    ask: 'why',
    ...optional('workload', from, printable),
    to: printable(from.to, 'to'),
    port: portOf(from.port, 'port'),
    ...optional('protocol', from, (value, path) => oneOf(value, path, ['http', 'tcp', 'tls'] as const)),
    method: methodOf(from.method ?? 'GET', 'method'),
    path: pathOf(from.path ?? '/', 'path'),
    headers: headersOf(from.headers ?? {}, 'headers'),
  };
}

function admitQuery(from: Fields): AdmitQuery {
  return {
    ask: 'admit',
    port: portOf(from.port, 'port'),
    ...optional('peer', from, printable),
    ...optional('source', from, printable),
    ...optional('http', from, (value, path) => {
      const http = only(record(value, path), ['authority', 'method', 'path', 'headers']);
      return {
        authority: printable(http.authority, `${path}.authority`),
        method: methodOf(http.method, `${path}.method`),
        path: pathOf(http.path, `${path}.path`),
        headers: headersOf(http.headers ?? {}, `${path}.headers`),
      };
    }),
  };
}

function logQuery(from: Fields): LogQuery {
  if (from.levels === undefined) return { ask: 'log' };
  const levels = record(from.levels, 'levels');
  const entries = Object.entries(levels);
  if (entries.length === 0 || entries.length > 100) throw invalid('levels', '1 to 100 loggers');
  for (const [logger, level] of entries) {
    if (logger !== '' && !LOGGER.test(logger)) throw invalid('levels', 'names of loggers, such as http');
    oneOf(level, `levels.${logger}`, ENVOY_LOG_LEVELS);
  }
  return { ask: 'log', levels: levels as Record<string, string> };
}

type Fields = Readonly<Record<string, unknown>>;

function record(value: unknown, path: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(path, 'an object');
  return value as Fields;
}

function only(from: Fields, known: readonly string[]): Fields {
  for (const key of Object.keys(from)) if (!known.includes(key)) throw invalid(key.slice(0, 100), 'no such field');
  return from;
}

function optional<K extends string, T>(
  key: K,
  from: Fields,
  parse: (value: unknown, path: string) => T,
): { readonly [P in K]?: T } {
  return from[key] === undefined ? {} : ({ [key]: parse(from[key], key) } as { readonly [P in K]?: T });
}

function printable(value: unknown, path: string): string {
  if (typeof value !== 'string' || !NAME.test(value)) throw invalid(path, '1 to 512 printable characters');
  return value;
}

function portOf(value: unknown, path: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > 65_535)
    throw invalid(path, 'a port, 1 to 65535');
  return value;
}

function oneOf<T extends string>(value: unknown, path: string, known: readonly T[]): T {
  const found = known.find((one) => one === value);
  if (found === undefined) throw invalid(path, `one of ${known.join(', ')}`);
  return found;
}

function methodOf(value: unknown, path: string): string {
  if (typeof value !== 'string' || !/^[A-Za-z-]{1,32}$/.test(value)) throw invalid(path, 'a method of HTTP');
  return value;
}

function pathOf(value: unknown, path: string): string {
  if (typeof value !== 'string' || !/^(\/|\*)[\x21-\x7e]{0,2047}$/.test(value)) throw invalid(path, 'a path, /...');
  return value;
}

function headersOf(value: unknown, path: string): Record<string, string> {
  const entries = Object.entries(record(value, path));
  if (entries.length > MAX_HEADERS) throw invalid(path, `at most ${MAX_HEADERS}`);
  return Object.fromEntries(
    entries.map(([name, text]) => {
      const lower = name.toLowerCase();
      if (!HEADER.test(lower) || typeof text !== 'string' || !/^[\x20-\x7e]{0,2048}$/.test(text))
        throw invalid(path, 'names and printable values of headers');
      return [lower, text];
    }),
  );
}

function invalid(path: string, expected: string): MeshError {
  return new MeshError('QUERY_INVALID', `${path}: expected ${expected}`, { details: { field: path } });
}

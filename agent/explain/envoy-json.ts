/**
 * Room agent/explain. In: Envoy's own configuration as its admin interface dumps it (proto3 JSON, snake_case), or as translate renders it: the
 * same shapes. Out: rows for tables, and what Envoy does with a call and why. Pure but for the look-ups that it is given. Must never: answer
 * from what the mesh thinks where Envoy's config says something else, or guess where it cannot know (`unsure`).
 */

/** A message of Envoy's; what is in it is read by the names that one looks for. */
export type Body = { readonly [key: string]: unknown };

const NOTHING: Body = {};

/** The message at a path, or an empty one. */
export function at(from: unknown, ...path: readonly string[]): Body {
  let value = from;
  for (const key of path) value = isBody(value) ? value[key] : undefined;
  return isBody(value) ? value : NOTHING;
}

/** The message at a path, or undefined where there is none. */
export function maybe(from: unknown, ...path: readonly string[]): Body | undefined {
  const found = at(from, ...path);
  return found === NOTHING ? undefined : found;
}

export function listOf(from: Body, key: string): readonly Body[] {
  const value = from[key];
  return Array.isArray(value) ? value.filter(isBody) : [];
}

export function textsOf(from: Body, key: string): readonly string[] {
  const value = from[key];
  return Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string') : [];
}

/** Empty where there is none. */
export function textOf(from: Body, key: string): string {
  const value = from[key];
  return typeof value === 'string' ? value : '';
}

/** 64-bit numbers come as texts in proto3 JSON. */
export function numberOf(from: Body, key: string): number | undefined {
  const value = from[key];
  const number = typeof value === 'string' && value !== '' ? Number(value) : value;
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined;
}

/** The type of an Any, without its prefix: `envoy.config.listener.v3.Listener`. */
export function typeOf(any: Body): string {
  return textOf(any, '@type').replace(/^.*\//, '');
}

function isBody(value: unknown): value is Body {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What Envoy has by a name. Each look-up may be a question to a running Envoy. */
export interface EnvoySource {
  listener(name: string): Promise<ListenerState | undefined>;
  /** RouteConfiguration. */
  route(name: string): Promise<Body | undefined>;
  /** Config of a filter that comes as a resource of its own (ECDS): a TypedExtensionConfig. */
  extension(name: string): Promise<Body | undefined>;
  cluster(name: string): Promise<Body | undefined>;
  /** Endpoints of a cluster as load balancing has them now. */
  hosts(cluster: string): Promise<readonly HostState[]>;
}

export interface ListenerState {
  readonly name: string;
  /** Absent: Envoy has none that works. */
  readonly body?: Body;
  /** Envoy's words about a newer version that it refused. */
  readonly refused?: string;
}

/** One endpoint of a cluster. */
export interface HostState {
  readonly address: string;
  readonly port: number;
  /** HEALTHY, UNHEALTHY, DRAINING, DEGRADED, TIMEOUT, UNKNOWN. */
  readonly status: string;
  readonly ejected: boolean;
  readonly healthy: boolean;
  readonly locality: string;
  readonly priority: number;
  readonly weight: number;
}

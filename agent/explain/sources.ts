import type { HttpCall, Origin, Step } from '../../api/http/host-query.ts';
import { type MeshObject, type ObjectKey, objectKey } from '../../api/resources/object.ts';
import { MESH_CONFIG_NAME } from '../../api/resources/registry.ts';
import type { Body, EnvoySource } from './envoy-json.ts';

/** A workload that may call. */
export interface Caller {
  /** `NAMESPACE/NAME`. */
  readonly group: string;
  readonly namespace: string;
  readonly spiffeId: string;
  readonly outboundPort: number;
  /** Calls come to it, at its own sockets; it makes none itself. */
  readonly gateway?: true;
}

/** What DNS says to a name; `origins`: the objects behind the service. */
export type NameVerdict =
  | {
      readonly kind: 'addresses';
      readonly v4: readonly string[];
      readonly v6: readonly string[];
      readonly origins: readonly ObjectKey[];
    }
  | { readonly kind: 'nxdomain' }
  | { readonly kind: 'foreign' };

/** Kinds of resources that the agent serves. */
export type ResourceKind = 'listener' | 'route' | 'cluster' | 'endpoint' | 'extension';

/** What the host knows beside its Envoy. */
export interface WhySources {
  readonly callers: readonly Caller[];
  readonly envoy: EnvoySource;
  /** What the mesh's DNS answers a workload of that namespace. */
  lookup(namespace: string, name: string): NameVerdict;
  /** Why traffic to the port is not led through Envoy; undefined: it is. */
  uncaptured(port: number, address: string | undefined): string | undefined;
  /** Objects behind a resource that the agent serves, and Envoy's words when it refused the newest version of it. */
  served(kind: ResourceKind, name: string): { readonly origins: readonly ObjectKey[]; readonly refused?: string };
  object(key: ObjectKey): MeshObject | undefined;
}

/** A station; what is left out is empty. */
export function stepOf(
  step: Step['step'],
  verdict: Step['verdict'],
  summary: string,
  decidedBy: readonly Origin[] = [],
  details: readonly string[] = [],
): Step {
  return { step, verdict, summary, details, decidedBy };
}

/** Objects as a whole, without a field. */
export function byObjects(keys: readonly ObjectKey[]): Origin[] {
  return keys.map((object) => ({ object }));
}

/** That Envoy runs an older version than the mesh has. */
export function words(refused: string | undefined): string[] {
  return refused === undefined ? [] : [`Envoy refused a newer version and runs the last good one: ${refused}`];
}

/** Who says where connections to what no service names may go. */
export function outboundPolicyOrigin(sources: WhySources): Origin[] {
  const key = objectKey('MeshConfig', undefined, MESH_CONFIG_NAME);
  const spec = sources.object(key)?.spec as { outboundTrafficPolicy?: object } | undefined;
  return spec?.outboundTrafficPolicy === undefined ? [] : [{ object: key, path: 'spec.outboundTrafficPolicy' }];
}

/** A step, and what it found for the next one. */
export interface Found<T> {
  readonly step: Step;
  readonly found?: T;
}

/** Where a chain leads: clusters with their shares. */
export interface Way {
  readonly clusters: readonly { readonly name: string; readonly share: number; readonly body: Body }[];
  readonly origin?: Origin;
  readonly route?: Body;
  readonly http?: HttpCall;
}

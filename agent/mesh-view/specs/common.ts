/**
 * What several kinds share: matches, destinations, percentages, as far as this agent enforces them: shapes of verified config behind api/resources/enforced. The controller validated the
 * values; a reader here still meets `undefined` everywhere. Source: Istio's API reference; for v1 kinds, Kubernetes'.
 */

export interface StringMatch {
  readonly exact?: string;
  readonly prefix?: string;
  readonly regex?: string;
}

export interface PortSelector {
  readonly number?: number;
}

export interface Destination {
  readonly host: string;
  readonly subset?: string;
  readonly port?: PortSelector;
}

export interface Percent {
  readonly value?: number;
}

/** localityLbSetting of a DestinationRule or of MeshConfig. */
export interface LocalityLbSpec {
  readonly distribute?: readonly { readonly from?: string; readonly to?: Readonly<Record<string, number>> }[];
  readonly failover?: readonly { readonly from?: string; readonly to?: string }[];
  readonly failoverPriority?: readonly string[];
  readonly enabled?: boolean;
}

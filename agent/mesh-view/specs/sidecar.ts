/**
 * Sidecar, as far as this agent enforces it: shape of verified config behind api/resources/enforced. The controller validated the
 * values; a reader here still meets `undefined` everywhere. Source: Istio's API reference.
 */
import type { Destination } from './common.ts';
import type { ConnectionPoolSpec } from './destination-rule.ts';
import type { ServerTlsSpec } from './gateway.ts';

/** Port of a listener: `protocol` empty means found out per connection. */
export interface SidecarPort {
  readonly number?: number;
  readonly name?: string;
  readonly protocol?: string;
}

export interface EgressSpec {
  readonly port?: SidecarPort;
  readonly bind?: string;
  readonly captureMode?: string;
  readonly hosts?: readonly string[];
}

export interface IngressSpec {
  readonly port?: SidecarPort;
  readonly bind?: string;
  readonly captureMode?: string;
  readonly defaultEndpoint?: string;
  readonly connectionPool?: ConnectionPoolSpec;
  readonly tls?: ServerTlsSpec;
}

export interface SidecarSpec {
  readonly workloadSelector?: { readonly labels?: Readonly<Record<string, string>> };
  readonly egress?: readonly EgressSpec[];
  readonly ingress?: readonly IngressSpec[];
  readonly outboundTrafficPolicy?: { readonly mode?: string; readonly egressProxy?: Destination };
  readonly inboundConnectionPool?: ConnectionPoolSpec;
}

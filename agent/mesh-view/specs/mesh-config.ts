/**
 * MeshConfig, as far as this agent enforces it: shape of verified config behind api/resources/enforced. The controller validated the
 * values; a reader here still meets `undefined` everywhere. Source: Istio's MeshConfig reference.
 */
import type { LocalityLbSpec } from './common.ts';
import type { ConnectionPoolSpec } from './destination-rule.ts';
import type { HttpRoute } from './virtual-service.ts';

export type TcpKeepaliveSpec = NonNullable<NonNullable<ConnectionPoolSpec['tcp']>['tcpKeepalive']>;
export type RetrySpec = NonNullable<HttpRoute['retries']>;

export interface MeshConfigSpec {
  readonly outboundTrafficPolicy?: { readonly mode?: string };
  readonly accessLog?: { readonly enabled?: boolean };
  readonly accessLogFile?: string;
  readonly accessLogFormat?: string;
  readonly accessLogEncoding?: string;
  readonly connectTimeout?: string;
  readonly tcpKeepalive?: TcpKeepaliveSpec;
  readonly dnsRefreshRate?: string;
  readonly protocolDetectionTimeout?: string;
  readonly enableAutoMtls?: boolean;
  readonly h2UpgradePolicy?: string;
  readonly defaultServiceExportTo?: readonly string[];
  readonly defaultVirtualServiceExportTo?: readonly string[];
  readonly defaultDestinationRuleExportTo?: readonly string[];
  readonly defaultHttpRetryPolicy?: RetrySpec;
  readonly localityLbSetting?: LocalityLbSpec;
  readonly pathNormalization?: { readonly normalization?: string };
  readonly meshMTLS?: { readonly minProtocolVersion?: string };
  readonly defaultConfig?: { readonly concurrency?: number };
}

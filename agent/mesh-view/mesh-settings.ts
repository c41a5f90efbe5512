import type { ObjectKey } from '../../api/resources/object.ts';
import type { Typed } from './object-index.ts';
import type { MeshConfigSpec, RetrySpec, TcpKeepaliveSpec } from './specs/mesh-config.ts';

/** What MeshConfig says for the whole mesh, defaults filled in; undefined where the reader has a default of its own. */
export interface MeshSettings {
  /** MeshConfig, if there is one: what it shaped carries its key, so that a refusal by Envoy names it. */
  readonly origins: readonly ObjectKey[];
  readonly outboundPolicy: OutboundPolicy;
  readonly accessLog: AccessLogSettings | undefined;
  readonly connectTimeout: string | undefined;
  readonly tcpKeepalive: TcpKeepaliveSpec | undefined;
  readonly dnsRefreshRate: string | undefined;
  readonly protocolDetectionTimeout: string | undefined;
  /** False: mTLS only where a DestinationRule asks for it. */
  readonly autoMtls: boolean;
  readonly h2UpgradePolicy: 'UPGRADE' | 'DO_NOT_UPGRADE' | undefined;
  readonly exportTo: {
    readonly services: readonly string[] | undefined;
    readonly virtualServices: readonly string[] | undefined;
    readonly destinationRules: readonly string[] | undefined;
  };
  readonly retries: RetrySpec | undefined;
  readonly pathNormalization: PathNormalization;
  /** Of mTLS between proxies. */
  readonly minTlsVersion: 'TLSv1_2' | 'TLSv1_3';
}

export type OutboundPolicy = 'ALLOW_ANY' | 'REGISTRY_ONLY';
export type PathNormalization = 'NONE' | 'BASE' | 'MERGE_SLASHES' | 'DECODE_AND_MERGE_SLASHES';

/** How each request and connection is written to Envoy's standard output. */
export interface AccessLogSettings {
  readonly encoding: 'TEXT' | 'JSON';
  /** Undefined: the encoding's own default. */
  readonly format: string | undefined;
}

/** Settings of the one MeshConfig, or the defaults. */
export function meshSettings(config: Typed<MeshConfigSpec> | undefined): MeshSettings {
  const spec = config?.spec ?? {};
  const h2 = spec.h2UpgradePolicy;
  return {
    origins: config === undefined ? [] : [config.key],
    outboundPolicy: spec.outboundTrafficPolicy?.mode === 'REGISTRY_ONLY' ? 'REGISTRY_ONLY' : 'ALLOW_ANY',
    accessLog: accessLog(spec),
    connectTimeout: spec.connectTimeout,
    tcpKeepalive: spec.tcpKeepalive,
    dnsRefreshRate: spec.dnsRefreshRate,
    protocolDetectionTimeout: spec.protocolDetectionTimeout,
    autoMtls: spec.enableAutoMtls !== false,
    h2UpgradePolicy: h2 === 'UPGRADE' || h2 === 'DO_NOT_UPGRADE' ? h2 : undefined,
    exportTo: {
      services: some(spec.defaultServiceExportTo),
      virtualServices: some(spec.defaultVirtualServiceExportTo),
      destinationRules: some(spec.defaultDestinationRuleExportTo),
    },
    retries: spec.defaultHttpRetryPolicy,
    pathNormalization: normalization(spec.pathNormalization?.normalization),
    minTlsVersion: spec.meshMTLS?.minProtocolVersion === 'TLSV1_3' ? 'TLSv1_3' : 'TLSv1_2',
  };
}

function some(list: readonly string[] | undefined): readonly string[] | undefined {
  return list === undefined || list.length === 0 ? undefined : list;
}

function normalization(text: string | undefined): PathNormalization {
  return text === 'NONE' || text === 'MERGE_SLASHES' || text === 'DECODE_AND_MERGE_SLASHES' ? text : 'BASE';
}

/** JSON unless a format or an encoding is written: then TEXT is the default, as in Istio. An empty accessLogFile is Istio's word for off. */
function accessLog(spec: MeshConfigSpec): AccessLogSettings | undefined {
  if (spec.accessLog?.enabled === false || spec.accessLogFile === '') return undefined;
  const format = spec.accessLogFormat === '' ? undefined : spec.accessLogFormat;
  const encoding = spec.accessLogEncoding ?? (format === undefined ? 'JSON' : 'TEXT');
  return { encoding: encoding === 'TEXT' ? 'TEXT' : 'JSON', format };
}

import type { ObjectKey } from '../../api/resources/object.ts';
import type { ServerTlsSpec } from './specs/gateway.ts';

/** `plain`: HTTP without TLS, routed by Host. `tls`: chains by SNI. `tcp`: bytes. */
export type GatewayKind = 'plain' | 'tls' | 'tcp';

/** One host that a server takes: for VirtualServices of one namespace, or of any. Lower case. */
export interface ServerHost {
  readonly namespace: string | undefined;
  readonly host: string;
}

/** One server of a Gateway. */
export interface GatewayServer {
  /** `NAMESPACE/NAME` of the Gateway. */
  readonly gateway: string;
  readonly key: ObjectKey;
  /** Port as written: what `match.port` of a VirtualService means. */
  readonly number: number;
  /** Of the port. */
  readonly name: string;
  /** The server's own. */
  readonly label?: string;
  /** Upper case. */
  readonly protocol: string;
  readonly hosts: readonly ServerHost[];
  readonly tls?: ServerTlsSpec;
}

/** One socket of this host's Envoy. */
export interface GatewayListener {
  /** The workload's group. */
  readonly group: string;
  readonly port: number;
  /** Absent: every address. */
  readonly bind?: string;
  readonly kind: GatewayKind;
  /** In order of precedence. */
  readonly servers: readonly GatewayServer[];
}

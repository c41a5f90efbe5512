import type { ObjectKey } from '../../api/resources/object.ts';
import type { RuleSource } from './delegates.ts';
import type { GatewayListener } from './gateway-view.ts';
import type { MeshSettings, OutboundPolicy } from './mesh-settings.ts';
import type { Destination, LocalityLbSpec } from './specs/common.ts';
import type { ConnectionPoolSpec, DestinationRuleSpec } from './specs/destination-rule.ts';
import type { ServerTlsSpec } from './specs/gateway.ts';
import type { HttpRetrySpec, VirtualServiceSpec } from './specs/virtual-service.ts';

/** Protocol of a service port: what Envoy may assume of it. AUTO: not declared, found out per connection. TLS: opaque TLS, routed by SNI. */
export type Protocol = 'HTTP' | 'HTTP2' | 'TLS' | 'TCP' | 'AUTO';

/** How connections to one port are secured: every endpoint by mTLS, none, or each by its own metadata (auto mTLS, DESIGN 3.4). */
export type Transport = 'mtls' | 'plain' | 'mixed';

export type MtlsMode = 'DISABLE' | 'PERMISSIVE' | 'STRICT';

export type Health = 'healthy' | 'unhealthy' | 'draining';

export interface ServicePort {
  readonly number: number;
  readonly name: string;
  readonly protocol: Protocol;
  /** From config alone, never from gossip: a host that comes or goes changes endpoints, not clusters. */
  readonly transport: Transport;
  /** Resolution NONE and DYNAMIC_DNS: the server's port where it is another than `number`. Elsewhere each endpoint has its own. */
  readonly targetPort?: number;
  /** Protocol HTTP2 whose clients may speak gRPC-Web: a proxy translates. */
  readonly grpcWeb?: true;
}

/** One thing that serves a service: a WorkloadGroup on one host, a WorkloadEntry, or an endpoint written into a ServiceEntry. */
export interface EndpointView {
  /** Stable name, unique within the service, e.g. `HOST/NS/GROUP`. Endpoints are sorted by it. */
  readonly id: string;
  /** IP addresses, IPv4 first; a DNS name where the service's resolution is DNS. Never empty. */
  readonly addresses: readonly string[];
  /** By number of the service port; a port that is absent is not served here. */
  readonly ports: Readonly<Record<number, { readonly port: number; readonly mtls: boolean }>>;
  readonly labels: Readonly<Record<string, string>>;
  /** `REGION/ZONE/SUBZONE`, shorter or empty. */
  readonly locality: string;
  /** 1 or more. */
  readonly weight: number;
  readonly health: Health;
  /** Its addresses are those of its network's gateway. */
  readonly viaGateway?: true;
  /** Host of the mesh that has these addresses, as gossip proved. Absent: an object says so, and nobody else. */
  readonly host?: string;
  readonly namespace: string;
  /** Name of the WorkloadGroup or WorkloadEntry, for telemetry. */
  readonly workload: string;
}

/** One service host. A v1 Service or one host of the ServiceEntries of one namespace. */
export interface ServiceView {
  readonly host: string;
  readonly namespace: string;
  /** Short name, for telemetry. */
  readonly name: string;
  /** VIPs and written addresses, IPs or CIDRs: where clients connect to. */
  readonly addresses: readonly string[];
  /** By number. */
  readonly ports: readonly ServicePort[];
  readonly resolution: 'STATIC' | 'DNS' | 'DNS_ROUND_ROBIN' | 'DYNAMIC_DNS' | 'NONE';
  /**
   * v1 Service with clusterIP None: it has no address of its own; DNS answers with its endpoints' and clients pick one. Endpoints come by
   * EDS as for any other.
   */
  readonly headless?: true;
  /** v1 Service: the nearest endpoints first, by zone or by host, even where no DestinationRule says so. */
  readonly closest?: 'zone' | 'host';
  /** ServiceEntry.subjectAltNames, of which a server's certificate must have one; empty: not said. Those that are SPIFFE IDs are in `identities` too. */
  readonly subjectAltNames: readonly string[];
  readonly external: boolean;
  readonly endpoints: readonly EndpointView[];
  /** SPIFFE IDs that a server of this service may have; sorted. */
  readonly identities: readonly string[];
  readonly exportTo: readonly string[] | undefined;
  /** Sorted. */
  readonly origins: readonly ObjectKey[];
}

export interface VirtualServiceView {
  readonly key: ObjectKey;
  readonly namespace: string;
  /** Full names or wildcards. */
  readonly hosts: readonly string[];
  /** `mesh` and gateways as `NAMESPACE/NAME`; never empty. */
  readonly gateways: readonly string[];
  /** Its delegates' http rules stand in place of the rules that name them. */
  readonly spec: VirtualServiceSpec;
  /** With delegates: where each of `spec.http` was written. Absent: in the object itself, at its index. */
  readonly written?: readonly RuleSource[];
  /** The object's key, and those of its delegates. */
  readonly origins: readonly ObjectKey[];
}

export interface DestinationRuleView {
  readonly key: ObjectKey;
  readonly namespace: string;
  /** Full name or wildcard. */
  readonly host: string;
  readonly spec: DestinationRuleSpec;
}

/** A port of a local workload that peers may connect to. */
export interface InboundPort {
  readonly number: number;
  readonly mode: MtlsMode;
  readonly protocol: Protocol;
  /** Where the application listens (Sidecar's defaultEndpoint); absent: where the connection went. */
  readonly endpoint?: { readonly address: string; readonly port: number };
  /** Address that the proxy itself binds for it (captureMode NONE); absent: the redirection brings its connections. */
  readonly bind?: string;
  /** TLS of the operator's own that the proxy ends; counts where the port's mode is DISABLE. */
  readonly tls?: ServerTlsSpec;
  /** Limits on what the proxy asks of the application. */
  readonly pool?: ConnectionPoolSpec;
  readonly grpcWeb?: true;
  /** The service that the port serves, for telemetry; the first by name if several do. */
  readonly service?: { readonly host: string; readonly name: string; readonly namespace: string };
}

/** One egress listener of a workload's Sidecar: what may be reached through it. */
export interface EgressView {
  /** Namespace (`*`: any) and host (`*`, `*.x` or a name) of what it imports. */
  readonly imports: readonly { readonly namespace: string; readonly name: string }[];
  /** Absent: every port that no other listener has. `protocol` absent: each service's own. */
  readonly port?: { readonly number: number; readonly protocol?: Protocol };
  /** Address that connections were made to, or, when not captured, that the proxy binds. */
  readonly bind?: string;
  /** False: the application speaks to the proxy's own socket (captureMode NONE). */
  readonly captured: boolean;
}

/** One workload of this host. */
export interface WorkloadView {
  /** `NAMESPACE/NAME` of the WorkloadGroup. */
  readonly group: string;
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  readonly spiffeId: string;
  readonly labels: Readonly<Record<string, string>>;
  /** 0 for a gateway. */
  readonly outboundPort: number;
  /** A gateway: no user, nothing captured for it; its sockets are MeshView.gateways. */
  readonly gateway?: true;
  readonly inboundPorts: readonly InboundPort[];
  /** Ports on which the application itself listens, as far as they are known: the host watches who holds them. */
  readonly applicationPorts: readonly number[];
  /** By its Sidecar; absent: everything that its namespace sees. In order of precedence. */
  readonly egress?: readonly EgressView[];
  /** What becomes of connections that no service is meant by. */
  readonly outboundPolicy: OutboundPolicy;
  /** Where they go instead of straight out. */
  readonly egressProxy?: Destination;
  /** The policies and the Sidecar that shaped it; sorted. */
  readonly origins: readonly ObjectKey[];
}

/** What the agent knows of its own host. */
export interface HostView {
  readonly id: string;
  readonly addresses: readonly string[];
  /** `REGION/ZONE/SUBZONE`, shorter or empty. */
  readonly locality: string;
  /** Name of the network whose addresses it reaches directly; absent: it reaches all. */
  readonly network?: string;
  /** Whether the host has IPv6 at all: listeners bind [::1] and [::] only then. */
  readonly ipv6: boolean;
}

/** The mesh as this host sees it. Immutable; same inputs, same view; every list is sorted or in order of precedence. */
export interface MeshView {
  readonly generation: number;
  readonly trustDomain: string;
  readonly host: HostView;
  /** CIDRs that virtual addresses come from: 240.240.0.0/16 and the mesh's IPv6 prefixes. */
  readonly vipRanges: readonly string[];
  /** What MeshConfig says for everyone. */
  readonly mesh: MeshSettings;
  /** MeshConfig's localityLbSetting: holds for services whose DestinationRule has none. */
  readonly localityLb?: LocalityLbSpec;
  /** MeshConfig.defaultHttpRetryPolicy: retries of routes that say nothing of them. */
  readonly defaultRetries?: HttpRetrySpec;
  /** Worker threads of this host's proxy; absent: one a processor. A start option: it is no part of what Envoy is given. */
  readonly concurrency?: number;
  /** In the order of agent.yaml. */
  readonly workloads: readonly WorkloadView[];
  /** By host, then namespace. */
  readonly services: readonly ServiceView[];
  /** For workloads and gateways, oldest first. */
  readonly virtualServices: readonly VirtualServiceView[];
  /** Oldest first. */
  readonly destinationRules: readonly DestinationRuleView[];
  /** Sockets of this host's gateway workloads, by port and bind. */
  readonly gateways: readonly GatewayListener[];
  /** One line for each server of a Gateway that this host ought to serve and does not. */
  readonly gatewayProblems: readonly string[];
  /** One line for each port that objects name for a workload of this host and that it cannot have. */
  readonly portProblems: readonly string[];
  /** DNS SANs of revoked hosts; sorted. */
  readonly revokedNames: readonly string[];
}

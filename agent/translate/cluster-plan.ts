import type { ClientView, EffectiveRule } from '../mesh-view/lookup.ts';
import { selects } from '../mesh-view/object-index.ts';
import type { LocalityLbSpec } from '../mesh-view/specs/common.ts';
import type { ClientTlsSpec, PortPolicy, SubsetSpec, TcpKeepaliveSpec } from '../mesh-view/specs/destination-rule.ts';
import type { EndpointView, MeshView, ServicePort, ServiceView, Transport } from '../mesh-view/view.ts';
import { refusedRanges } from './dynamic-dns.ts';
import { closestFirst, localitySetting, type Site } from './locality.ts';
import { clusterName, sniName } from './names.ts';
import { originatedTls, portPolicy, transportOf } from './traffic-policy.ts';

/** What holds for clusters of the whole mesh where no DestinationRule says otherwise; `undefined`: the defaults here. */
export interface ClusterDefaults {
  readonly connectTimeout?: string | undefined;
  readonly tcpKeepalive?: TcpKeepaliveSpec | undefined;
  readonly dnsRefreshRate?: string | undefined;
  /** False: mTLS only where a DestinationRule asks for it. */
  readonly autoMtls?: boolean;
  readonly h2UpgradePolicy?: 'UPGRADE' | 'DO_NOT_UPGRADE' | undefined;
  readonly localityLbSetting?: LocalityLbSpec | undefined;
  readonly minTlsVersion?: 'TLSv1_2' | 'TLSv1_3';
  /** What a server of undeclared protocol is spoken to: as the caller speaks, but by a gateway, whose callers say nothing of it, HTTP/1.1. */
  readonly undeclared?: 'http1';
}

/** For which client clusters are made, and what holds for all of them. */
export interface ClusterContext {
  readonly client: ClientView;
  readonly site: Site;
  readonly defaults: ClusterDefaults;
  /** CIDRs that no name resolved at request time may lead to. */
  readonly refused: readonly string[];
}

/** One cluster to make: a port of a service, or of a subset of it, as one client's namespace sees it. */
export interface ClusterPlan {
  readonly name: string;
  readonly sni: string;
  readonly service: ServiceView;
  readonly port: ServicePort;
  readonly subset: SubsetSpec | undefined;
  readonly policy: PortPolicy;
  readonly transport: Transport;
  /** TLS of the operator's own, where the policy asks for it: `transport` is then `plain`. */
  readonly tls: ClientTlsSpec | undefined;
  /** Namespace of its credentialName's Secret: the client's, where the rule is of it too (the controller looks closer: api/resources/gateway-binding). */
  readonly credentials: string | undefined;
  /** The localityLbSetting that counts; undefined: none. */
  readonly locality: LocalityLbSpec | undefined;
  /** Whether endpoints farther away wait until nearer ones fail: with outlier detection, or where the service itself asks for the nearest. */
  readonly failover: boolean;
  readonly site: Site;
  readonly defaults: ClusterDefaults;
  readonly refused: readonly string[];
  readonly origins: readonly string[];
  /** The one SPIFFE ID that it is for; absent: each connection's own. */
  readonly identity?: string;
}

/** The context of one client of a view. */
export function clusterContext(view: MeshView, client: ClientView, defaults: ClusterDefaults = {}): ClusterContext {
  const { locality, network, id } = view.host;
  return {
    client,
    site: { locality, host: id, labels: client.labels, ...(network === undefined ? {} : { network }) },
    defaults,
    refused: refusedRanges(view),
  };
}

/** Clusters of one service for one client: each port, whole and by subset. */
export function clusterPlans(context: ClusterContext, service: ServiceView): readonly ClusterPlan[] {
  const rule = context.client.destinationRule(service);
  return service.ports.flatMap((port) =>
    [undefined, ...(rule?.subsets ?? [])].map((subset) => plan(context, service, port, rule, subset)),
  );
}

function plan(
  { client, site, defaults, refused }: ClusterContext,
  service: ServiceView,
  port: ServicePort,
  rule: EffectiveRule | undefined,
  subset: SubsetSpec | undefined,
): ClusterPlan {
  const policy = portPolicy(rule, subset, port.number);
  const rules = policy.loadBalancer?.localityLbSetting;
  const closest = rules === undefined ? closestFirst(service) : undefined;
  return {
    name: clusterName(client, service, port.number, subset?.name),
    sni:
      policy.tls?.mode === 'ISTIO_MUTUAL' && policy.tls.sni
        ? policy.tls.sni
        : sniName(service.host, port.number, subset?.name),
    service,
    port,
    subset,
    policy,
    transport: transportOf(policy, port, defaults.autoMtls),
    tls: originatedTls(policy),
    credentials: rule?.namespace === client.namespace ? client.namespace : undefined,
    locality: closest ?? localitySetting(rules, defaults.localityLbSetting),
    failover: policy.outlierDetection !== undefined || closest !== undefined,
    site,
    defaults,
    refused,
    origins: [...service.origins, ...(rule?.origins ?? [])],
  };
}

/** Endpoints of a cluster: those that serve the port and carry the subset's labels. In the service's order. */
export function plannedEndpoints({ service, port, subset }: ClusterPlan): readonly EndpointView[] {
  return service.endpoints.filter(
    (endpoint) => endpoint.ports[port.number] !== undefined && selects(subset?.labels, endpoint.labels),
  );
}

import type { EndpointView, ServiceView } from '../mesh-view/view.ts';
import type { JsonObject } from './json.ts';

/** Labels as Istio's canonical service has them; `unknown` where nothing says. */
export function canonical(labels: Readonly<Record<string, string>>, workload: string) {
  return {
    app: labels.app ?? labels['app.kubernetes.io/name'] ?? 'unknown',
    version: labels.version ?? labels['app.kubernetes.io/version'] ?? 'unknown',
    service: labels['service.istio.io/canonical-name'] ?? labels['app.kubernetes.io/name'] ?? labels.app ?? workload,
    revision:
      labels['service.istio.io/canonical-revision'] ??
      labels['app.kubernetes.io/version'] ??
      labels.version ??
      'latest',
  };
}

/** Metadata of a cluster, read by the metrics of whoever calls it. */
export function serviceMetadata(service: ServiceView): JsonObject {
  return { host: service.host, name: service.name, namespace: service.namespace };
}

/** Metadata of an endpoint, read by the metrics of whoever calls it. */
export function endpointMetadata(endpoint: EndpointView): JsonObject {
  const { app, version, service, revision } = canonical(endpoint.labels, endpoint.workload);
  return { workload: endpoint.workload, namespace: endpoint.namespace, app, version, service, revision };
}

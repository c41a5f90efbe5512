import { DestinationRule } from '@kubernetes-models/istio/networking.istio.io/v1/DestinationRule';
import { Gateway } from '@kubernetes-models/istio/networking.istio.io/v1/Gateway';
import { ServiceEntry } from '@kubernetes-models/istio/networking.istio.io/v1/ServiceEntry';
import { Sidecar } from '@kubernetes-models/istio/networking.istio.io/v1/Sidecar';
import { VirtualService } from '@kubernetes-models/istio/networking.istio.io/v1/VirtualService';
import { WorkloadEntry } from '@kubernetes-models/istio/networking.istio.io/v1/WorkloadEntry';
import { WorkloadGroup } from '@kubernetes-models/istio/networking.istio.io/v1/WorkloadGroup';
import { ProxyConfig } from '@kubernetes-models/istio/networking.istio.io/v1beta1/ProxyConfig';
import { AuthorizationPolicy } from '@kubernetes-models/istio/security.istio.io/v1/AuthorizationPolicy';
import { PeerAuthentication } from '@kubernetes-models/istio/security.istio.io/v1/PeerAuthentication';
import { RequestAuthentication } from '@kubernetes-models/istio/security.istio.io/v1/RequestAuthentication';
import { Telemetry } from '@kubernetes-models/istio/telemetry.istio.io/v1/Telemetry';
import { Namespace } from 'kubernetes-models/v1/Namespace';
import { Secret } from 'kubernetes-models/v1/Secret';
import { Service } from 'kubernetes-models/v1/Service';
import { ServiceAccount } from 'kubernetes-models/v1/ServiceAccount';
import { childPath, type Report } from './report.ts';

type Model = new (data: never) => { validate(): void };

const MODELS: Readonly<Record<string, Model>> = {
  AuthorizationPolicy,
  DestinationRule,
  Gateway,
  Namespace,
  PeerAuthentication,
  ProxyConfig,
  RequestAuthentication,
  Secret,
  Service,
  ServiceAccount,
  ServiceEntry,
  Sidecar,
  Telemetry,
  VirtualService,
  WorkloadEntry,
  WorkloadGroup,
};

interface AjvError {
  readonly instancePath: string;
  readonly keyword: string;
  readonly message?: string;
}

/**
 * The CRD's own schema, as the model packages compiled it with ajv: limits, patterns, formats and one-of rules. `body` is an object of
 * known structure in the storage version. Of one value's errors only the most specific is told: `oneOf` and `not` only repeat it.
 */
export function checkModel(kind: string, body: Readonly<Record<string, unknown>>, report: Report): void {
  const model = MODELS[kind];
  if (model === undefined) return;
  try {
    new model(body as never).validate();
  } catch (error) {
    const errors = (error as { errors?: readonly AjvError[] }).errors;
    if (errors === undefined) throw error;
    const specific = errors.filter(
      (one) => !['oneOf', 'anyOf', 'allOf', 'not', 'required', 'if'].includes(one.keyword),
    );
    for (const one of specific.length > 0 ? specific : errors.slice(0, 1)) {
      report.add(pathOf(one.instancePath, body), one.message ?? `fails ${one.keyword}`);
    }
  }
}

/** A JSON pointer as a path: list positions in brackets. */
function pathOf(pointer: string, root: unknown): string {
  let path = '';
  let value = root;
  for (const segment of pointer.split('/').slice(1)) {
    const key = segment.replaceAll('~1', '/').replaceAll('~0', '~');
    path = Array.isArray(value) ? `${path}[${key}]` : childPath(path, key);
    value = (value as Record<string, unknown> | undefined)?.[key];
  }
  return path;
}

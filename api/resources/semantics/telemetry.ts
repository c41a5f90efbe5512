import { checkDuration, checkInteger, checkPercent, checkSelector } from '../formats.ts';
import type { MeshObject } from '../object.ts';
import type { Report } from '../report.ts';

interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>;
}

interface TelemetrySpec {
  readonly selector?: Selector;
  readonly tracing?: readonly { readonly randomSamplingPercentage?: number; readonly providers?: readonly unknown[] }[];
  readonly metrics?: readonly { readonly reportingInterval?: string }[];
}

/** Telemetry by itself: what Istio's ValidateTelemetry judges beyond the schema. */
export function checkTelemetry(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as TelemetrySpec;
  checkSelector(spec.selector?.matchLabels, 'spec.selector.matchLabels', report);
  if ((spec.tracing ?? []).length > 1)
    report.warn('spec.tracing', 'multiple tracing is not currently supported: the first counts');
  for (const [i, tracing] of (spec.tracing ?? []).entries())
    checkPercent(tracing.randomSamplingPercentage, `spec.tracing[${i}].randomSamplingPercentage`, report);
  for (const [i, metrics] of (spec.metrics ?? []).entries())
    checkDuration(metrics.reportingInterval, `spec.metrics[${i}].reportingInterval`, report);
}

/** ProxyConfig by itself. */
export function checkProxyConfig(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as { readonly selector?: Selector; readonly concurrency?: number };
  checkSelector(spec.selector?.matchLabels, 'spec.selector.matchLabels', report);
  checkInteger(spec.concurrency, 'spec.concurrency', report, 0);
}

import { checkLabelName, checkPort, checkSelector } from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { type Report, shown } from '../report.ts';
import { checkNamespacedHost } from './gateway.ts';

interface Ingress {
  readonly port?: { readonly number?: number; readonly name?: string };
  readonly bind?: string;
  readonly defaultEndpoint?: string;
}

interface SidecarSpec {
  readonly workloadSelector?: { readonly labels?: Readonly<Record<string, string>> };
  readonly egress?: readonly { readonly hosts?: readonly string[]; readonly port?: { readonly number?: number } }[];
  readonly ingress?: readonly Ingress[];
}

/** Sidecar by itself, as Istio's ValidateSidecar judges it. */
export function checkSidecar(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as SidecarSpec;
  checkSelector(spec.workloadSelector?.labels, 'spec.workloadSelector.labels', report);
  for (const [i, egress] of (spec.egress ?? []).entries()) {
    const path = `spec.egress[${i}]`;
    if ((egress.hosts ?? []).length === 0)
      report.required(`${path}.hosts`, 'egress listener must contain at least one host');
    for (const [k, host] of (egress.hosts ?? []).entries()) {
      if (!host.includes('/')) report.add(`${path}.hosts[${k}]`, `${shown(host)} must be NAMESPACE/HOST`);
      else checkNamespacedHost(host, `${path}.hosts[${k}]`, report);
    }
    checkPort(egress.port?.number, `${path}.port.number`, report);
  }
  const ports = new Set<number>();
  for (const [i, ingress] of (spec.ingress ?? []).entries()) {
    const path = `spec.ingress[${i}]`;
    const number = ingress.port?.number ?? 0;
    checkPort(number, `${path}.port.number`, report);
    checkLabelName(ingress.port?.name, `${path}.port.name`, report, 'port name');
    if (ports.has(number)) report.add(`${path}.port.number`, `duplicate port ${number}`, 'FieldValueDuplicate');
    ports.add(number);
    if (ingress.bind?.startsWith('unix:'))
      report.add(`${path}.bind`, 'unix sockets are not allowed', 'FieldValueForbidden');
    checkDefaultEndpoint(ingress.defaultEndpoint, `${path}.defaultEndpoint`, report);
  }
}

/** Istio's three forms: 127.0.0.1:PORT, 0.0.0.0:PORT (the instance's address), and their IPv6 kin; its unix:// is refused here (DESIGN 3.2). */
function checkDefaultEndpoint(endpoint: string | undefined, path: string, report: Report): void {
  if (endpoint === undefined || endpoint === '') return;
  const match = /^(127\.0\.0\.1|0\.0\.0\.0|\[::1?\]):(\d{1,5})$/.exec(endpoint);
  if (endpoint.startsWith('unix:')) report.add(path, 'unix sockets are not allowed', 'FieldValueForbidden');
  else if (match === null)
    report.add(path, `${shown(endpoint)} must be 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT or [::]:PORT`);
  else checkPort(Number(match[2]), path, report);
}

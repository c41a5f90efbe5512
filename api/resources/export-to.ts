import type { MeshObject } from './object.ts';

/** Whom an object is exported to that does not say so itself; empty: all. */
export interface ExportDefaults {
  readonly services: readonly string[];
  readonly virtualServices: readonly string[];
  readonly destinationRules: readonly string[];
}

interface MeshConfigShape {
  readonly defaultServiceExportTo?: readonly string[];
  readonly defaultVirtualServiceExportTo?: readonly string[];
  readonly defaultDestinationRuleExportTo?: readonly string[];
}

/** Annotation of a Service: namespaces with commas between them. */
const ANNOTATION = 'networking.istio.io/exportTo';

/** What a Service's annotation says; undefined: it has none, or an empty one. Source: Istio, annotation networking.istio.io/exportTo. */
export function annotatedExportTo(annotations: Readonly<Record<string, string>> = {}): readonly string[] | undefined {
  const listed = (annotations[ANNOTATION] ?? '').split(',').flatMap((one) => one.trim() || []);
  return listed.length === 0 ? undefined : listed;
}

/** As hosts take MeshConfig (agent/mesh-view/mesh-settings.ts); undefined: there is none, or it is not known. */
export function exportDefaults(meshConfig: MeshObject | undefined): ExportDefaults {
  const spec = (meshConfig?.spec ?? {}) as MeshConfigShape;
  return {
    services: spec.defaultServiceExportTo ?? [],
    virtualServices: spec.defaultVirtualServiceExportTo ?? [],
    destinationRules: spec.defaultDestinationRuleExportTo ?? [],
  };
}

/** Namespaces that a Service, ServiceEntry, VirtualService or DestinationRule is exported to, as exportTo writes them; empty: all. */
export function exportToOf({ kind, metadata, spec }: MeshObject, defaults: ExportDefaults): readonly string[] {
  const written =
    kind === 'Service'
      ? annotatedExportTo(metadata.annotations)
      : (spec as { readonly exportTo?: readonly string[] } | undefined)?.exportTo;
  if (written !== undefined && written.length > 0) return written;
  if (kind === 'VirtualService') return defaults.virtualServices;
  return kind === 'DestinationRule' ? defaults.destinationRules : defaults.services;
}

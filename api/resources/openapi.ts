import { apiVersionOf, KINDS, type KindInfo, parseGroupVersion } from './registry.ts';
import { fieldSchemas } from './schemas.ts';

/** An OpenAPI v3 schema object. */
export type OpenApiSchema = Readonly<Record<string, unknown>>;

const META_REF = '#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';
const STRING_MAP = { type: 'object', additionalProperties: { type: 'string' } };

const OBJECT_META: OpenApiSchema = {
  type: 'object',
  description: 'What every object has.',
  properties: {
    name: { type: 'string', description: 'Unique in its namespace and kind; cannot be changed.' },
    namespace: { type: 'string', description: 'Cannot be changed.' },
    labels: STRING_MAP,
    annotations: STRING_MAP,
    uid: { type: 'string', description: 'Set by the server.' },
    resourceVersion: {
      type: 'string',
      description: 'Set by the server; a write that carries an older one is refused.',
    },
    generation: { type: 'integer', format: 'int64', description: 'Set by the server: grows when the spec changes.' },
    creationTimestamp: { type: 'string', format: 'date-time', description: 'Set by the server.' },
    managedFields: { type: 'array', items: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
  },
};

/** Name of a kind's schema in `components.schemas`: reversed group, as Kubernetes names them. */
export function schemaName(info: KindInfo, version: string): string {
  const group = info.group === '' ? 'io.k8s.api.core' : info.group.split('.').reverse().join('.');
  return `${group}.${version}.${info.kind}`;
}

/**
 * `components.schemas` of the OpenAPI v3 document of `groupVersion` (`networking.istio.io/v1`, core: `v1`): one entry a kind and its List,
 * each with x-kubernetes-group-version-kind, and ObjectMeta. Empty for a group or version that is not served.
 */
export function openapiSchemas(groupVersion: string): Record<string, OpenApiSchema> {
  const { group, version } = parseGroupVersion(groupVersion);
  const kinds = KINDS.filter((info) => info.group === group && info.versions.includes(version));
  if (kinds.length === 0) return {};
  const schemas: Record<string, OpenApiSchema> = {
    'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta': OBJECT_META,
  };
  for (const info of kinds) {
    const name = schemaName(info, version);
    schemas[name] = kindSchema(info, version);
    schemas[`${name}List`] = listSchema(info, version, name);
  }
  return schemas;
}

const gvk = (info: KindInfo, version: string, kind: string): object[] => [{ group: info.group, version, kind }];
const TYPE_META = {
  apiVersion: { type: 'string', description: 'Group and version of the schema of this object.' },
  kind: { type: 'string', description: 'What this object is.' },
};

function kindSchema(info: KindInfo, version: string): OpenApiSchema {
  return {
    type: 'object',
    description: `${info.kind} (${apiVersionOf(info, version)})`,
    properties: {
      ...TYPE_META,
      metadata: { allOf: [{ $ref: META_REF }], default: {} },
      ...fieldSchemas(info),
      status: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true, description: 'Written by the mesh.' },
    },
    'x-kubernetes-group-version-kind': gvk(info, version, info.kind),
  };
}

function listSchema(info: KindInfo, version: string, item: string): OpenApiSchema {
  return {
    type: 'object',
    required: ['items'],
    properties: {
      ...TYPE_META,
      metadata: { type: 'object', properties: { resourceVersion: { type: 'string' }, continue: { type: 'string' } } },
      items: { type: 'array', items: { $ref: `#/components/schemas/${item}` } },
    },
    'x-kubernetes-group-version-kind': gvk(info, version, `${info.kind}List`),
  };
}

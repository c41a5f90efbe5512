import { JOIN_TOKEN_TTL_SECONDS as TTL } from '../http/operator-api.ts';
import { MESH_CONFIG } from './mesh-config-schema.ts';
import type { KindInfo } from './registry.ts';
import generated from './schemas.json' with { type: 'json' };
import type { StructuralSchema } from './structural.ts';

const STRING: StructuralSchema = { type: 'string' };
const strings = (description: string): StructuralSchema => ({ type: 'array', items: STRING, description });

const HOST: StructuralSchema = {
  type: 'object',
  properties: {
    workloadGroups: strings('NAMESPACE/NAME of the WorkloadGroups that the host may serve.'),
    gossipAddresses: strings('Where its gossip listens.'),
    epoch: { type: 'number' },
    revoked: { type: 'boolean' },
  },
};

const JOIN_TOKEN: StructuralSchema = {
  type: 'object',
  required: ['host', 'workloadGroups'],
  properties: {
    host: { type: 'string', description: 'Id of the host that may join with it.' },
    workloadGroups: strings('NAMESPACE/NAME of the WorkloadGroups that the host may serve.'),
    ttlSeconds: { type: 'number', description: `${TTL.min} to ${TTL.max}; ${TTL.default} by default.` },
    peers: strings('Gossip addresses to dial first.'),
  },
};

const TABLE: Readonly<Record<string, Readonly<Record<string, StructuralSchema>>>> = {
  ...(generated as unknown as Record<string, Record<string, StructuralSchema>>),
  MeshConfig: { spec: MESH_CONFIG },
  Host: { spec: HOST },
  JoinToken: { spec: JOIN_TOKEN },
};

/** Structural schema of each field that an operator may write beside metadata, e.g. `{spec: {...}}`; the same for all versions of a kind. */
export function fieldSchemas(info: KindInfo): Readonly<Record<string, StructuralSchema>> {
  return TABLE[info.kind] ?? {};
}

import { type KindEnforcement, spec } from './paths.ts';

export const MESH_CONFIG_KINDS: Readonly<Record<string, KindEnforcement>> = {
  MeshConfig: {
    fields: spec(['outboundTrafficPolicy.mode']),
    values: { 'spec.outboundTrafficPolicy.mode': ['ALLOW_ANY', 'REGISTRY_ONLY'] },
  },
};

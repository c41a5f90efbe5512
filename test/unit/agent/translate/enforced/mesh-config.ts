import type { Row } from './row.ts';

export const MESH_CONFIG_ROWS: readonly Row[] = [
  { kind: 'MeshConfig', name: 'default', base: {}, changes: [{ outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } }] },
];

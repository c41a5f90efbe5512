import { MeshError } from '../errors.ts';
import { keyOf, type MeshObject } from '../resources/object.ts';
import type { DesiredConfig, HostGrant, ReplicaAnchor, Vip } from './desired-config.ts';
import {
  ANCHOR_PREFIX,
  HOST_PREFIX,
  MESH_KEY,
  type MeshRow,
  OBJECT_PREFIX,
  REVOKED_PREFIX,
  VIP_PREFIX,
} from './layout.ts';
import type { Accepted } from './verifier.ts';

/**
 * What agents run, out of an accepted generation. The values are signed, so a wrong shape is the signer's fault: the generation is refused
 * whole with CONFIG_MALFORMED rather than half understood.
 */
export function toDesiredConfig(accepted: Accepted): DesiredConfig {
  const policy = accepted.roles.policy.content.values;
  const state = accepted.roles.state.content.values;
  const mesh = policy.get(MESH_KEY);
  if (!isRecord(mesh) || typeof mesh.trustDomain !== 'string' || !Number.isSafeInteger(mesh.minCapability))
    throw wrong(MESH_KEY);
  const { trustDomain, minCapability } = mesh as unknown as MeshRow;
  return {
    generation: accepted.generation,
    trustDomain,
    minCapability,
    objects: pick(policy, OBJECT_PREFIX, isObjectUnder),
    anchors: pick(policy, ANCHOR_PREFIX, isAnchor),
    hosts: pick(state, HOST_PREFIX, isGrant),
    revokedHosts: new Set(pick(state, REVOKED_PREFIX, (value): value is unknown => isRecord(value)).keys()),
    vips: pick(state, VIP_PREFIX, isVip),
  };
}

function pick<T>(
  values: ReadonlyMap<string, unknown>,
  prefix: string,
  check: (value: unknown, name: string) => value is T,
): ReadonlyMap<string, T> {
  const found = new Map<string, T>();
  for (const [key, value] of values) {
    if (!key.startsWith(prefix)) continue;
    const name = key.slice(prefix.length);
    if (!check(value, name)) throw wrong(key);
    found.set(name, value);
  }
  return found;
}

function isObjectUnder(value: unknown, name: string): value is MeshObject {
  return (
    isRecord(value) &&
    typeof value.kind === 'string' &&
    isRecord(value.metadata) &&
    keyOf(value as unknown as MeshObject) === name
  );
}

function isAnchor(value: unknown, name: string): value is ReplicaAnchor {
  return (
    isRecord(value) && value.replica === name && typeof value.intermediatePem === 'string' && isTexts(value.agentUrls)
  );
}

function isGrant(value: unknown, name: string): value is HostGrant {
  return (
    isRecord(value) &&
    value.host === name &&
    Number.isSafeInteger(value.epoch) &&
    isTexts(value.workloadGroups) &&
    isTexts(value.gossipAddresses)
  );
}

function isVip(value: unknown): value is Vip {
  return isRecord(value) && typeof value.v4 === 'string' && typeof value.v6 === 'string';
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function wrong(key: string): MeshError {
  return new MeshError('CONFIG_MALFORMED', `signed config holds something unknown under ${key}`);
}

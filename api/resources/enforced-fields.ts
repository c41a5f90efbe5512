/**
 * What the agents enforce, field by field, gathered from enforced/. In: nothing. Out: for each kind the paths (and, where only some values
 * are honoured, the values) that agent/mesh-view and agent/translate turn into behaviour. The controller refuses every set field that is
 * not covered, so this list must never promise more than the code does: it grows in the same commit as the code. A kind without a row here
 * is refused whole.
 */
import { INERT_KINDS, REFUSED_KINDS } from './enforced/core.ts';
import { DESTINATION_RULE_KINDS } from './enforced/destination-rule.ts';
import { GATEWAY_KINDS } from './enforced/gateway.ts';
import { MESH_CONFIG_KINDS } from './enforced/mesh-config.ts';
import type { KindEnforcement } from './enforced/paths.ts';
import { SECURITY_KINDS } from './enforced/security.ts';
import { SERVICE_KINDS } from './enforced/service.ts';
import { SIDECAR_KINDS } from './enforced/sidecar.ts';
import { VIRTUAL_SERVICE_KINDS } from './enforced/virtual-service.ts';

const KINDS: Readonly<Record<string, KindEnforcement>> = {
  ...SERVICE_KINDS,
  ...VIRTUAL_SERVICE_KINDS,
  ...DESTINATION_RULE_KINDS,
  ...GATEWAY_KINDS,
  ...SECURITY_KINDS,
  ...MESH_CONFIG_KINDS,
  ...SIDECAR_KINDS,
};

const each = <T>(of: (kind: KindEnforcement) => T): Readonly<Record<string, T>> =>
  Object.fromEntries(Object.entries(KINDS).map(([name, kind]) => [name, of(kind)]));

/** Enforced paths by kind. A field that is set and matches no pattern must be refused with its path. */
export const ENFORCED: Readonly<Record<string, readonly string[]>> = each((kind) => kind.fields);

/** Values honoured, by kind and path, where not all are. Any other value must be refused. */
export const ENFORCED_VALUES: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = each(
  (kind) => kind.values ?? {},
);

/** Why a field is not enforced, by kind and path; a path covers what lies below it. */
export const REFUSED: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  ...each((kind) => kind.refused ?? {}),
  ...INERT_KINDS,
};

export { INERT_KINDS, REFUSED_KINDS };

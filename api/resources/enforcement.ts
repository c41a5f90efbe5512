import { ENFORCED, ENFORCED_VALUES, INERT_KINDS, REFUSED, REFUSED_KINDS } from './enforced-fields.ts';
import type { Report } from './report.ts';
import { childPath, shown } from './report.ts';

/**
 * The patterns of ENFORCED as a tree, e.g. `spec.http[].match[].headers.*.exact`: `[]` any index, `*` any map key, `**` at the end the whole
 * subtree. ENFORCED_VALUES limits the values of a scalar by the same pattern.
 */
interface Node {
  readonly children: Map<string, Node>;
  /** This very field may be set. */
  leaf: boolean;
  subtree: boolean;
  values?: readonly string[];
  /** Why neither this field nor anything below it is enforced. */
  refused?: string;
}

/** Fields that the controller itself acts upon, beside those that agents enforce. */
const BY_CONTROLLER: Readonly<Record<string, readonly string[]>> = {
  MeshConfig: ['spec.trustDomain', 'spec.hostOwnership[].hosts[]', 'spec.hostOwnership[].namespace'],
  Secret: ['data.*', 'stringData.*', 'type', 'immutable'],
};

/** What this version enforces, agents and controller together. */
export const THIS_VERSION: Enforced = {
  fields: {
    ...ENFORCED,
    ...Object.fromEntries(
      Object.entries(BY_CONTROLLER).map(([kind, fields]) => [kind, [...(ENFORCED[kind] ?? []), ...fields]]),
    ),
  },
  values: ENFORCED_VALUES,
  refused: REFUSED,
  refusedKinds: REFUSED_KINDS,
};

/**
 * Nothing is accepted and then ignored: every set field of `fields` (spec and its like, without metadata) that no pattern of the kind
 * covers is a violation, and so is a kind without patterns: an empty AuthorizationPolicy denies everything. Objects and lists on the way
 * to a covered field may be there, even empty.
 */
export function checkEnforced(
  kind: string,
  fields: Readonly<Record<string, unknown>>,
  report: Report,
  enforced: Enforced = THIS_VERSION,
): void {
  const patterns = enforced.fields[kind];
  if (patterns === undefined && !Object.hasOwn(INERT_KINDS, kind)) {
    const why = enforced.refusedKinds?.[kind] ?? `this version does not enforce ${kind}`;
    report.add('', `not supported yet: ${why}`, 'FieldValueNotSupported');
    return;
  }
  const tree = treeOf(kind, enforced);
  for (const [key, value] of Object.entries(fields)) walk(value, tree.children.get(key), key, report);
}

/** Shape of enforced-fields.ts; tests pass their own. */
export interface Enforced {
  readonly fields: Readonly<Record<string, readonly string[]>>;
  readonly values: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>;
  readonly refused?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly refusedKinds?: Readonly<Record<string, string>>;
}

function walk(value: unknown, node: Node | undefined, path: string, report: Report): void {
  if (value === undefined || node?.subtree) return;
  if (node === undefined || node.refused !== undefined) {
    refuse(path, report, node?.refused);
    return;
  }
  if (Array.isArray(value)) {
    const item = node.children.get('[]');
    if (item === undefined) refuse(path, report);
    else for (const [i, child] of value.entries()) walk(child, item, `${path}[${i}]`, report);
  } else if (value !== null && typeof value === 'object') {
    for (const [key, child] of Object.entries(value)) {
      walk(child, node.children.get(key) ?? node.children.get('*'), childPath(path, key), report);
    }
  } else if (!node.leaf) {
    refuse(path, report);
  } else if (node.values !== undefined && !node.values.includes(String(value))) {
    const why = `not supported yet: the value ${shown(value)}; this version enforces ${node.values.join(', ')}`;
    report.add(path, why, 'FieldValueNotSupported');
  }
}

function refuse(path: string, report: Report, reason?: string): void {
  const why = reason ?? 'this version does not enforce the field';
  report.add(path, `not supported${reason === undefined ? ' yet' : ''}: ${why}`, 'FieldValueNotSupported');
}

const TREES = new WeakMap<Enforced, Map<string, Node>>();

function treeOf(kind: string, enforced: Enforced): Node {
  const trees = TREES.get(enforced) ?? new Map<string, Node>();
  TREES.set(enforced, trees);
  const tree =
    trees.get(kind) ??
    buildTree(enforced.fields[kind] ?? [], enforced.values[kind] ?? {}, enforced.refused?.[kind] ?? {});
  trees.set(kind, tree);
  return tree;
}

function buildTree(
  patterns: readonly string[],
  values: Readonly<Record<string, readonly string[]>>,
  refused: Readonly<Record<string, string>>,
): Node {
  const root = fresh();
  for (const pattern of patterns) {
    const node = nodeAt(root, pattern);
    node.leaf = true;
    if (values[pattern] !== undefined) node.values = values[pattern];
  }
  for (const [pattern, reason] of Object.entries(refused)) nodeAt(root, pattern).refused = reason;
  return root;
}

const fresh = (): Node => ({ children: new Map(), leaf: false, subtree: false });

/** The node of a pattern, made with all on its way. */
function nodeAt(root: Node, pattern: string): Node {
  let node = root;
  for (const segment of pattern.replaceAll('[]', '.[]').split('.')) {
    if (segment === '**') {
      node.subtree = true;
      continue;
    }
    const next = node.children.get(segment) ?? fresh();
    node.children.set(segment, next);
    node = next;
  }
  return node;
}

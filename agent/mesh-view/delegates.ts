import type { ObjectKey } from '../../api/resources/object.ts';
import { isExportedTo, resolveHost } from './host-names.ts';
import type { Typed } from './object-index.ts';
import type { Destination, StringMatch } from './specs/common.ts';
import type { HttpMatch, HttpRoute, VirtualServiceSpec } from './specs/virtual-service.ts';

/** Where an http rule was written: in which object, at which path, e.g. `spec.http[2]`. */
export interface RuleSource {
  readonly origin: ObjectKey;
  readonly path: string;
}

/** A root VirtualService's http rules once its delegates' stand in place of the rules that name them. */
export interface Merged {
  readonly http: readonly HttpRoute[];
  /** Where each of them was written. */
  readonly written: readonly RuleSource[];
  /** The delegates that were found; sorted as met, without repetition. */
  readonly delegates: readonly ObjectKey[];
}

/**
 * What one root may grow to, in comparisons of its matches with its delegates'. Rules beyond have no effect: a namespace could otherwise
 * multiply two objects of thousands of matches, on every host of the mesh.
 */
const MAX_COMPARISONS = 20_000;

/**
 * Puts delegates' rules where the root delegates to them. `find` takes `NAMESPACE/NAME` and knows VirtualServices without hosts only. A rule
 * goes where its delegate is missing or not exported to the root's namespace; a delegate's rule goes where it is no subset of the root's,
 * or delegates again. Source: Istio, VirtualService, HTTPRoute.delegate.
 */
export function mergeDelegates(
  root: Typed<VirtualServiceSpec>,
  find: (name: string) => Typed<VirtualServiceSpec> | undefined,
): Merged {
  const delegates = new Set<ObjectKey>();
  let left = MAX_COMPARISONS;
  const rules = (root.spec.http ?? []).flatMap((rule, index): [HttpRoute, RuleSource][] => {
    if (rule.delegate === undefined) return [[rule, { origin: root.key, path: `spec.http[${index}]` }]];
    const { name = '', namespace } = rule.delegate;
    const found = find(`${namespace === undefined || namespace === '' ? root.namespace : namespace}/${name}`);
    if (found === undefined) return [];
    delegates.add(found.key);
    if (!isExportedTo(found.spec.exportTo, found.namespace, root.namespace)) return [];
    return (found.spec.http ?? []).flatMap((own, position) => {
      left -= Math.max(1, rule.match?.length ?? 0) * Math.max(1, own.match?.length ?? 0);
      if (left < 0) return [];
      const merged = mergeRule(rule, own, found.namespace);
      return merged === undefined ? [] : [[merged, { origin: found.key, path: `spec.http[${position}]` }]];
    });
  });
  return { http: rules.map(([rule]) => rule), written: rules.map(([, source]) => source), delegates: [...delegates] };
}

const INHERITED = [
  'rewrite',
  'timeout',
  'retries',
  'fault',
  'mirror',
  'mirrorPercent',
  'mirror_percent',
  'mirrorPercentage',
  'mirrors',
  'corsPolicy',
  'headers',
] as const;

/** One rule of a delegate with what it does not say itself taken from the root's. Undefined where it cannot take effect. */
function mergeRule(root: HttpRoute, own: HttpRoute, namespace: string): HttpRoute | undefined {
  if (own.delegate !== undefined) return undefined;
  const match = mergeMatches(root.match ?? [], own.match ?? []);
  if (match === undefined) return undefined;
  const inherited = Object.fromEntries(
    INHERITED.filter((field) => root[field] !== undefined).map((field) => [field, root[field]]),
  );
  const name = joined(root.name, own.name);
  return { ...inherited, ...resolved(own, namespace), match, ...(name === undefined ? {} : { name }) };
}

/** `ROOT-OWN`, or the one of them that there is. */
function joined(root: string | undefined, own: string | undefined): string | undefined {
  const parts = [root, own].filter((part) => part !== undefined && part !== '');
  return parts.length === 0 ? undefined : parts.join('-');
}

/** The rule with its destinations' short names read in its own namespace: it will stand in another's. */
function resolved(rule: HttpRoute, namespace: string): HttpRoute {
  const at = (destination: Destination): Destination => ({
    ...destination,
    host: resolveHost(destination.host, namespace),
  });
  const within = <T extends { readonly destination: Destination }>(list: readonly T[]) =>
    list.map((entry) => ({ ...entry, destination: at(entry.destination) }));
  return {
    ...rule,
    ...(rule.route === undefined ? {} : { route: within(rule.route) }),
    ...(rule.mirror === undefined ? {} : { mirror: at(rule.mirror) }),
    ...(rule.mirrors === undefined ? {} : { mirrors: within(rule.mirrors) }),
  };
}

/** Every match of the delegate under every match of the root that covers it; undefined where one of them has none: the rule conflicts. */
function mergeMatches(root: readonly HttpMatch[], own: readonly HttpMatch[]): readonly HttpMatch[] | undefined {
  if (root.length === 0) return own;
  if (own.length === 0) return root;
  const merged: HttpMatch[] = [];
  for (const match of own) {
    const covering = root.filter((candidate) => covers(candidate, match));
    if (covering.length === 0) return undefined;
    merged.push(...covering.map((candidate) => mergeMatch(candidate, match)));
  }
  return merged;
}

function mergeMatch(root: HttpMatch, own: HttpMatch): HttpMatch {
  const name = joined(root.name, own.name);
  const maps = (['headers', 'withoutHeaders', 'queryParams', 'sourceLabels'] as const)
    .filter((field) => root[field] !== undefined || own[field] !== undefined)
    .map((field) => [field, { ...root[field], ...own[field] }] as const);
  return { ...root, ...said(own), ...Object.fromEntries(maps), ...(name === undefined ? {} : { name }) };
}

/** The match without fields that are written and say nothing. */
function said(match: HttpMatch): HttpMatch {
  const nothing = (value: unknown) => value === 0 || value === '' || (Array.isArray(value) && value.length === 0);
  return Object.fromEntries(Object.entries(match).filter(([, value]) => !nothing(value)));
}

/** True when nothing that `own` and `root` together admit is outside of what either admits alone: `own` narrows `root`. */
function covers(root: HttpMatch, own: HttpMatch): boolean {
  const parts = ['uri', 'scheme', 'method', 'authority'] as const;
  const maps = ['headers', 'queryParams'] as const;
  return (
    parts.every((part) => narrows(root[part], own[part])) &&
    maps.every((map) => Object.entries(own[map] ?? {}).every(([key, value]) => narrows(root[map]?.[key], value))) &&
    Object.entries(own.withoutHeaders ?? {}).every(([key, value]) => narrows(value, root.withoutHeaders?.[key])) &&
    Object.entries(own.sourceLabels ?? {}).every(([key, value]) => same(root.sourceLabels?.[key], value)) &&
    same(root.sourceNamespace, own.sourceNamespace) &&
    same(root.port, own.port) &&
    (root.ignoreUriCase === true) === (own.ignoreUriCase === true)
  );
}

function same<T>(root: T | undefined, own: T | undefined): boolean {
  return !root || !own || root === own;
}

/** True when `own` admits nothing that `root` does not. An absent one is free; an empty one is presence; of a regex nobody can tell. */
function narrows(root: StringMatch | undefined, own: StringMatch | undefined): boolean {
  if (root === undefined || own === undefined) return true;
  if (root.regex !== undefined || own.regex !== undefined) return false;
  if (root.exact !== undefined) return own.exact === root.exact;
  if (root.prefix === undefined) return true;
  return (own.exact ?? own.prefix ?? '').startsWith(root.prefix);
}

import { hostWithin } from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { costOf, fullHost, type MeshFacts, namespaceOf, perMesh, selects } from './model.ts';

type Labels = Readonly<Record<string, string>>;

/** The parts of a DestinationRule that are looked at beside other objects. */
export interface DestinationRuleShape {
  readonly host?: string;
  readonly exportTo?: readonly string[];
  readonly workloadSelector?: object;
  readonly trafficPolicy?: TrafficShape;
  readonly subsets?: readonly {
    readonly name?: string;
    readonly labels?: Labels;
    readonly trafficPolicy?: TrafficShape;
  }[];
}

export interface TrafficShape {
  readonly tls?: { readonly mode?: string };
  readonly portLevelSettings?: readonly {
    readonly port?: { readonly number?: number };
    readonly tls?: { readonly mode?: string };
  }[];
}

export interface SubsetFact {
  readonly name: string;
  readonly rule: MeshObject;
  /** Of `selects`, in steps. */
  readonly cost: number;
  selects(labels: Labels): boolean;
}

const fullHostOf = (rule: MeshObject) =>
  fullHost((rule.spec as DestinationRuleShape | undefined)?.host ?? '', namespaceOf(rule));

const rulesByHost = perMesh((facts) => {
  const all = facts.list('DestinationRule');
  return { exact: Map.groupBy(all, fullHostOf), wild: all.filter((rule) => fullHostOf(rule).startsWith('*')) };
});

/** DestinationRules whose host is exactly this full name. */
export function rulesOfHost(host: string, facts: MeshFacts): readonly MeshObject[] {
  return rulesByHost(facts).exact.get(host) ?? [];
}

/** Subsets that DestinationRules define for a full host name. */
export function subsetsOf(host: string, facts: MeshFacts): SubsetFact[] {
  const { exact, wild } = rulesByHost(facts);
  facts.step(wild.length);
  const within = wild.filter((rule) => hostWithin(host, fullHostOf(rule)));
  return [...(exact.get(host) ?? []), ...within].flatMap((rule) => {
    const spec = (rule.spec ?? {}) as DestinationRuleShape;
    facts.step(1 + (spec.subsets ?? []).length);
    return (spec.subsets ?? []).map(({ name = '', labels = {} }) => ({
      name,
      rule,
      cost: costOf(labels),
      selects: (own: Labels) => selects(labels, own),
    }));
  });
}

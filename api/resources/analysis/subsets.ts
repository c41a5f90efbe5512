import { hostWithin } from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { fullHost, type MeshFacts, namespaceOf, selects } from './model.ts';

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
  selects(labels: Labels): boolean;
}

/** Subsets that DestinationRules define for a full host name. */
export function subsetsOf(host: string, facts: MeshFacts): SubsetFact[] {
  return facts.list('DestinationRule').flatMap((rule) => {
    const spec = (rule.spec ?? {}) as DestinationRuleShape;
    if (!hostWithin(host, fullHost(spec.host ?? '', namespaceOf(rule)))) return [];
    return (spec.subsets ?? []).map(({ name = '', labels = {} }) => ({
      name,
      rule,
      selects: (own: Labels) => selects(labels, own),
    }));
  });
}

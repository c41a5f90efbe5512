import { ROOT_NAMESPACE } from '../../api/resources/registry.ts';
import { type ObjectIndex, selects } from './object-index.ts';

/** ProxyConfig, as far as this agent enforces it. Source: Istio's API reference. */
interface ProxyConfigSpec {
  readonly selector?: { readonly matchLabels?: Readonly<Record<string, string>> };
  readonly concurrency?: number;
}

interface Client {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
}

/**
 * Worker threads of a host's one proxy: for each workload the oldest ProxyConfig that selects it, else its namespace's, else the root
 * namespace's, else MeshConfig's; field by field, so that one without concurrency leaves it to the next. Of several workloads the highest
 * counts; 0, one thread a processor, is above any number. Undefined: nobody says, or 0.
 */
export function proxyConcurrency(
  objects: ObjectIndex,
  workloads: readonly Client[],
  meshDefault: number | undefined,
): number | undefined {
  const all = objects<ProxyConfigSpec>('ProxyConfig');
  const labelsOf = (spec: ProxyConfigSpec) => spec.selector?.matchLabels ?? {};
  const isWhole = (spec: ProxyConfigSpec) => Object.keys(labelsOf(spec)).length === 0;
  const of = ({ namespace, labels }: Client): number | undefined =>
    [
      all.find((one) => one.namespace === namespace && !isWhole(one.spec) && selects(labelsOf(one.spec), labels)),
      all.find((one) => one.namespace === namespace && isWhole(one.spec)),
      all.find((one) => one.namespace === ROOT_NAMESPACE && isWhole(one.spec)),
    ].find((one) => one?.spec.concurrency !== undefined)?.spec.concurrency ?? meshDefault;
  const asked = workloads.map(of).filter((threads) => threads !== undefined);
  return asked.length === 0 || asked.includes(0) ? undefined : Math.max(...asked);
}

/**
 * From what is known to what Envoy, DNS and peers are given, in one direction and one place. In: verified config, the endpoint table, bound
 * workloads, Envoy's verdicts. Out: one MeshView a change, its ResourceSet to xDS, workloads to identity and port watcher. Changes that come
 * together are one run. Must never run half: all of it is computed before any of it is handed on.
 */

import type { EndpointSnapshot } from '../api/gossip/host-record.ts';
import type { RefusedResource } from '../api/http/agent-api.ts';
import type { ObjectKey } from '../api/resources/object.ts';
import type { DesiredConfig } from '../api/signed-config/desired-config.ts';
import type { Logger } from '../runtime/log.ts';
import type { AgentConfig } from './config.ts';
import { createMeshViews } from './mesh-view/mesh-view.ts';
import type { HostView, MeshView } from './mesh-view/view.ts';
import { effective, judge, type Quarantine, sameQuarantine } from './quarantine/quarantine.ts';
import { neverPorts } from './redirect/policy.ts';
import type { ResourceSet } from './translate/resource-set.ts';
import { createTranslator } from './translate/translate.ts';
import { type BindResult, bindWorkloads, type PortAssignment } from './workloads/bind.ts';
import type { LocalWorkload } from './workloads/local-workload.ts';
import type { Xds } from './xds/server.ts';

export interface ReconcilerDeps {
  readonly config: AgentConfig;
  desired(): DesiredConfig | undefined;
  endpoints(): EndpointSnapshot;
  host(): HostView;
  uids(): ReadonlyMap<string, number>;
  unresolved(): ReadonlyMap<string, string>;
  readonly ownUids: ReadonlySet<number>;
  health(group: string): LocalWorkload['health'];
  readonly assigned: PortAssignment;
  readonly quarantine: Quarantine;
  readonly xds: Pick<Xds, 'setResources' | 'status'>;
  /** Called after each run with its outcome, in the order of the runs. */
  onRun(run: Run): void;
  /** What is held back changed: to be written to disk. */
  onQuarantine(state: Quarantine): void;
  readonly log: Logger;
}

export interface Run {
  readonly desired: DesiredConfig;
  readonly bound: BindResult;
  readonly view: MeshView;
  readonly resources: ResourceSet;
}

export interface Reconciler {
  /** Something changed: a run follows in this turn of the event loop, one for all that changed. Nothing happens before the first config. */
  request(): void;
  /** Envoy acknowledged or refused something. */
  onVerdict(): void;
  last(): Run | undefined;
  /** Objects and resources that Envoy refused, its own words with them. */
  refused(): readonly RefusedResource[];
}

/** A port that somebody else holds is no object's fault; xDS tries again, and the refusal shows until it goes. Envoy's words (1.40). */
function isOfConfig({ message }: { readonly message: string }): boolean {
  return !/cannot bind|Address already in use/.test(message);
}

export function createReconciler(deps: ReconcilerDeps): Reconciler {
  const viewOf = createMeshViews();
  const translate = createTranslator();
  let quarantine = deps.quarantine;
  let assigned = deps.assigned;
  let good: DesiredConfig | undefined;
  let pushed: DesiredConfig | undefined;
  let last: Run | undefined;
  let pending = false;

  const bind = (desired: DesiredConfig): BindResult => {
    const { config } = deps;
    return bindWorkloads({
      bindings: config.workloads,
      gateways: config.gateways,
      objects: desired.objects,
      grant: desired.revokedHosts.has(config.host) ? undefined : desired.hosts.get(config.host),
      trustDomain: desired.trustDomain,
      uids: deps.uids(),
      unresolved: deps.unresolved(),
      ownUids: deps.ownUids,
      ports: config.ports,
      reservedPorts: neverPorts(config),
      defaultNamespace: config.defaultNamespace,
      assigned,
      health: deps.health,
    });
  };

  const run = () => {
    pending = false;
    const desired = deps.desired();
    if (desired === undefined) return;
    const config = effective(desired, quarantine, good);
    const bound = bind(config);
    const view = viewOf({
      desired: config,
      endpoints: deps.endpoints(),
      workloads: [
        ...bound.workloads,
        ...bound.gateways.map((one) => ({ ...one, outboundPort: 0, ports: [], gateway: true as const })),
      ],
      host: deps.host(),
      reservedPorts: neverPorts(deps.config),
    });
    const resources = translate(view);
    assigned = bound.assigned;
    pushed = config;
    last = { desired, bound, view, resources };
    deps.xds.setResources(resources);
    deps.onRun(last);
  };

  return {
    request() {
      if (pending) return;
      pending = true;
      setImmediate(() => {
        try {
          run();
        } catch (error) {
          deps.log.error('cannot translate; Envoy goes on with what it has', { error });
        }
      });
    },
    onVerdict() {
      const desired = deps.desired();
      const status = deps.xds.status();
      // A verdict counts only when it is about what was pushed last, and that is of the config in force.
      if (desired === undefined || pushed === undefined || pending || !status.settled || last?.desired !== desired)
        return;
      const next = judge(desired, quarantine, good, status.refused.filter(isOfConfig));
      if (status.refused.length === 0) good = pushed;
      if (sameQuarantine(next, quarantine)) return;
      for (const [key, held] of next.held)
        if (!quarantine.held.has(key))
          deps.log.error('held back: Envoy refused it', { object: key, resource: held.resource, reason: held.message });
      quarantine = next;
      deps.onQuarantine(next);
      this.request();
    },
    last: () => last,
    refused() {
      const held = [...quarantine.held.values()].map((h) => ({
        typeUrl: h.typeUrl,
        resource: h.resource,
        origins: [h.key],
        message: h.message,
        generation: last?.desired.generation ?? 0,
      }));
      const named = new Set<ObjectKey>(held.flatMap((h) => h.origins));
      const others = deps.xds.status().refused.filter((r) => !r.origins.some((key) => named.has(key)));
      return [...held, ...others].slice(0, 100);
    },
  };
}

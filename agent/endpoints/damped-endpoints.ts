import type { Registry } from 'prom-client';
import type { EndpointSnapshot } from '../../api/gossip/host-record.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { readGauge } from '../../runtime/metrics.ts';
import { createDamping, type Damped } from './damping.ts';

export interface DampedEndpointsDeps {
  /** This host's id. */
  readonly host: string;
  /** Gossip's table. */
  snapshot(): EndpointSnapshot;
  /** It may be otherwise now, though the table did not change. */
  onDue(): void;
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
}

export interface DampedEndpoints {
  /** What Envoy is to be given; ask at each change of the table. */
  snapshot(): EndpointSnapshot;
  /** One line each, for the host's status. */
  problems(): readonly string[];
}

/** Time, logs and metrics around the pure room. */
export function createDampedEndpoints(deps: DampedEndpointsDeps): DampedEndpoints {
  const { clock, log, registry } = deps;
  const damping = createDamping(deps.host);
  let last: Damped | undefined;
  let lines: readonly string[] = [];
  let cancel = () => {};
  readGauge(
    registry,
    'mesh_agent_endpoints_held_back',
    'Hosts kept out of load balancing because they flap.',
    () => last?.heldBack.length ?? 0,
  );
  readGauge(
    registry,
    'mesh_agent_endpoints_kept',
    'Hosts kept in load balancing although they are silent, because all of a group are.',
    () => new Set(last?.kept.flatMap(({ hosts }) => hosts)).size,
  );

  return {
    snapshot() {
      const now = damping.look(deps.snapshot(), clock.monotonic());
      const before = lines;
      last = now;
      lines = [...now.heldBack.map(({ host }) => heldLine(host)), ...now.kept.map((kept) => keptLine(kept))];
      for (const line of lines) if (!before.includes(line)) log.warn('endpoints damped', { reason: line });
      for (const line of before) if (!lines.includes(line)) log.info('endpoints no longer damped', { reason: line });
      cancel();
      cancel = now.nextMs === undefined ? () => {} : clock.after(now.nextMs, deps.onDue);
      return now.snapshot;
    },
    problems: () => lines,
  };
}

function heldLine(host: string): string {
  return `${host} is kept out of load balancing: it was up and down several times in a minute, and is let in when it stays up`;
}

function keptLine({ group, hosts }: Damped['kept'][number]): string {
  const named = hosts.length > 5 ? `${hosts.slice(0, 5).join(', ')} and ${hosts.length - 5} more` : hosts.join(', ');
  return `${group}: no endpoint answers gossip any more; the last known are kept (${named}): is gossip (UDP and TCP) of this host cut off?`;
}

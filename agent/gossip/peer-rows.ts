import type { PeerRow } from '../../api/http/admin-api.ts';
import type { EndpointTable } from './endpoint-table.ts';
import type { Link } from './node.ts';
import type { Prober } from './prober.ts';

/** Every host of the table but the own, by host id, for `meshctl peers`. `now` is monotonic ms. */
export function peerRows(
  ownHost: string,
  table: EndpointTable,
  prober: Pick<Prober, 'lastAnswer'>,
  links: readonly Link[],
  now: number,
): PeerRow[] {
  const linked = new Set(links.map((l) => l.host));
  const rows: PeerRow[] = [];
  for (const { record, liveness } of table.rows()) {
    if (record.host === ownHost) continue;
    const answer = prober.lastAnswer(record.host);
    rows.push({
      host: record.host,
      state: liveness,
      epoch: record.epoch,
      counter: record.counter,
      addresses: record.addresses,
      workloads: record.workloads.map((w) => `${w.group} ${w.health}`),
      linked: linked.has(record.host),
      ...(answer && {
        rttMs: Math.round(answer.rttMs * 100) / 100,
        lastSeenSecondsAgo: Math.round((now - answer.at) / 1000),
        ...(answer.load && { degree: answer.load.links, records: answer.load.records }),
      }),
    });
  }
  return rows.sort((a, b) => (a.host < b.host ? -1 : 1));
}

import type { Logger } from '../../runtime/log.ts';
import type { EndpointTable } from './endpoint-table.ts';
import type { Prober } from './prober.ts';
import type { StoredRow, TableFile } from './table-file.ts';
import type { Trust } from './trust.ts';

/** What of the table outlives a restart: others' records, with the addresses that proved themselves. */
export function* storedRows(table: EndpointTable, host: string): Generator<StoredRow> {
  for (const row of table.rows()) {
    if (row.record.host !== host) yield { envelope: row.envelope.bytes, proven: row.proven };
  }
}

/** Takes the kept records into the table again, each judged anew by the config of now. */
export async function restoreTable(
  file: Pick<TableFile, 'load'>,
  deps: {
    readonly host: string;
    readonly trust: Trust;
    readonly table: EndpointTable;
    readonly prober: Pick<Prober, 'setHost'>;
    readonly log: Logger;
  },
): Promise<void> {
  const { host, trust, table, prober, log } = deps;
  let restored = 0;
  for (const { envelope, proven } of await file.load()) {
    const verified = trust.record(envelope, undefined);
    if (typeof verified === 'string' || verified.record.host === host) continue;
    if (trust.refuse(verified.record, verified.record.host) !== undefined) continue;
    table.restore(verified, proven);
    const row = table.get(verified.record.host);
    if (row !== undefined) prober.setHost(row);
    restored += 1;
  }
  log.info('endpoint table restored', { hosts: restored });
}

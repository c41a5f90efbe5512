import { MeshError } from '../../api/errors.ts';
import {
  type ClusterRow,
  type ConfigFilter,
  type ConfigPart,
  type ConfigRow,
  ENVOY_LOG_LEVELS,
  type EndpointRow,
  type HostAnswer,
  type ListenerRow,
  type Origin,
  type RouteRow,
  type SecretRow,
} from '../../api/http/host-query.ts';
import { lookInto } from '../client/look.ts';
import { type CliContext, type Command, EXIT } from '../context.ts';
import { type OutputFormat, renderData, versioned } from '../output/json.ts';
import { plain, renderTable } from '../output/table.ts';

interface ProxyConfigOptions {
  readonly name?: string;
  readonly fqdn?: string;
  readonly port?: string;
  readonly subset?: string;
  readonly direction?: 'inbound' | 'outbound';
  readonly address?: string;
  readonly status?: 'healthy' | 'unhealthy';
  readonly output?: OutputFormat;
}

/** `meshctl proxy-config listeners|routes|clusters|endpoints|secrets [HOST]`: what a host's Envoy has. Without HOST: this machine's. */
export function proxyConfig(part: ConfigPart): Command<ProxyConfigOptions> {
  return async (context, options, args) => {
    const data = options.output === 'json' || options.output === 'yaml';
    const answer = await lookInto(context, options, args[0], {
      ask: 'config',
      part,
      form: data ? 'full' : 'rows',
      filter: filterOf(options),
    });
    // Of secrets only what is public is ever told.
    const items = answer.resources ?? answer.rows ?? [];
    if (data) {
      const document = { host: answer.host, generation: answer.generation, at: answer.at, part, items };
      context.out(renderData(versioned('EnvoyConfig', document), options.output as 'json' | 'yaml').trimEnd());
    } else if (items.length === 0) context.err(`no ${part} of that kind`);
    else context.out(TABLES[part](answer.rows ?? []));
    sayWhatIsLeft(context, answer);
    return EXIT.ok;
  };
}

/** `meshctl proxy-config log [HOST] [--level LEVEL|LOGGER:LEVEL,...]`: Envoy's log levels; a change lasts until Envoy restarts. */
export const proxyLog: Command<{ readonly level?: string; readonly output?: OutputFormat }> = async (
  context,
  options,
  args,
) => {
  const levels = options.level === undefined ? undefined : levelsOf(options.level);
  const answer = await lookInto(context, options, args[0], { ask: 'log', ...(levels === undefined ? {} : { levels }) });
  const now = answer.levels ?? {};
  if (options.output === 'json' || options.output === 'yaml')
    context.out(renderData(versioned('EnvoyLogLevels', { host: answer.host, levels: now }), options.output).trimEnd());
  else
    context.out(
      renderTable(
        ['logger', 'level'],
        Object.entries(now).sort(([a], [b]) => (a < b ? -1 : 1)),
      ),
    );
  return EXIT.ok;
};

function sayWhatIsLeft(context: CliContext, { left }: HostAnswer): void {
  if (left !== undefined)
    context.err(`${left} more do not fit into one answer: narrow them down, e.g. with --fqdn or --port`);
}

function filterOf({ name, fqdn, port, subset, direction, address, status }: ProxyConfigOptions): ConfigFilter {
  const number = port === undefined ? undefined : Number(port);
  if (number !== undefined && !(Number.isInteger(number) && number > 0 && number < 65_536))
    throw new MeshError('USAGE', '--port is a number from 1 to 65535');
  const filter = { name, fqdn, port: number, subset, direction, address, status };
  return Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined));
}

function levelsOf(text: string): Record<string, string> {
  const levels: Record<string, string> = {};
  for (const part of text.split(',')) {
    const [logger, level] = part.includes(':') ? part.split(':', 2) : ['', part];
    if (!ENVOY_LOG_LEVELS.some((known) => known === level))
      throw new MeshError('USAGE', `--level: a level is one of ${ENVOY_LOG_LEVELS.join(', ')}, or LOGGER:LEVEL`);
    levels[logger ?? ''] = level ?? '';
  }
  return levels;
}

const TABLES: Readonly<Record<ConfigPart, (rows: readonly ConfigRow[]) => string>> = {
  listeners: (rows) =>
    renderTable(
      ['address', 'port', 'match', 'destination'],
      (rows as readonly ListenerRow[]).map((row) => [row.address, String(row.port), row.match, row.destination]),
    ),
  routes: (rows) =>
    renderTable(
      ['name', 'domains', 'match', 'target', 'virtual service'],
      (rows as readonly RouteRow[]).map((row) => [
        row.name,
        few(row.domains),
        row.match,
        row.target,
        row.origin === undefined ? '' : originCell(row.origin),
      ]),
    ),
  clusters: (rows) =>
    renderTable(
      ['service fqdn', 'port', 'subset', 'direction', 'type', 'destination rule'],
      (rows as readonly ClusterRow[]).map((row) => [
        row.fqdn,
        row.port === undefined ? '-' : String(row.port),
        row.subset || '-',
        row.direction || '-',
        row.type,
        row.destinationRules.map(dotted).join(', '),
      ]),
    ),
  endpoints: (rows) =>
    renderTable(
      ['endpoint', 'status', 'outlier check', 'cluster'],
      (rows as readonly EndpointRow[]).map((row) => [row.endpoint, row.status, row.outlier, row.cluster]),
    ),
  secrets: (rows) =>
    renderTable(
      ['resource name', 'type', 'status', 'valid cert', 'serial number', 'not after', 'not before'],
      (rows as readonly SecretRow[]).map((row) => [
        row.name,
        row.type,
        row.status,
        String(row.valid),
        row.serial,
        row.notAfter,
        row.notBefore,
      ]),
    ),
};

function few(names: readonly string[]): string {
  const shown = names.length <= 2 ? names.join(', ') : `${names.slice(0, 2).join(', ')} + ${names.length - 2} more`;
  return plain(shown);
}

/** `reviews.default http[0].match[1]`. */
function originCell({ object, path }: Origin): string {
  return `${dotted(object)}${path === undefined ? '' : ` ${path.replace(/^spec\./, '')}`}`;
}

/** `VirtualService/default/reviews` as istioctl has it, `reviews.default`. */
function dotted(key: string): string {
  const [, namespace, name] = key.split('/');
  return `${name}.${namespace}`;
}

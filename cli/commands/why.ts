import { hasCode, MeshError } from '../../api/errors.ts';
import type { AdmitQuery, CallTarget, Step, Trace, WhyQuery } from '../../api/http/host-query.ts';
import type { Host } from '../../api/http/operator-api.ts';
import { type KindInfo, kindByName } from '../../api/resources/registry.ts';
import type { ApiClient } from '../client/api-client.ts';
import { connectApi } from '../client/connect.ts';
import { lookInto } from '../client/look.ts';
import { createPlaces, type Places } from '../client/places.ts';
import { listObjects } from '../client/resources.ts';
import { type CliContext, type Command, EXIT, type GlobalOptions } from '../context.ts';
import { type OutputFormat, renderData, versioned } from '../output/json.ts';
import { plain } from '../output/table.ts';

interface WhyOptions {
  readonly method?: string;
  readonly header?: readonly string[];
  readonly protocol?: 'http' | 'tcp' | 'tls';
  readonly filename?: readonly string[];
  readonly output?: OutputFormat;
}

/** What the host of a target says of the call. */
interface Arrival {
  readonly host: string;
  readonly endpoint: string;
  readonly trace?: Trace;
  /** Why it is not known. */
  readonly unknown?: string;
}

const HOST_KIND = kindByName('Host') as KindInfo;
/** Hosts of one cluster that are asked whether they would take the call. */
const ASKED_OF_CLUSTER = 2;

/** `meshctl why HOST[/WORKLOAD] '->' NAME:PORT[/PATH]`: what would happen to that call and which object decided. Exit 1 when it would fail. */
export const why: Command<WhyOptions> = async (context, options, args) => {
  const { from, to, port, path } = parseCall(args);
  const local = options.socket !== undefined;
  const [host, ...rest] = from.split('/');
  const workload = local ? from : rest.join('/');
  const query: WhyQuery = {
    ask: 'why',
    ...(workload === '' || workload === '.' ? {} : { workload }),
    to,
    port,
    ...(options.protocol === undefined ? {} : { protocol: options.protocol }),
    method: options.method ?? 'GET',
    path,
    headers: headersOf(options.header ?? []),
  };
  const answer = await lookInto(context, options, local ? undefined : host, query);
  const trace = answer.trace;
  if (trace === undefined) throw new MeshError('API_BROKEN', 'the answer holds no trace');
  const client = local ? undefined : await connectApi(context, options);
  const arrivals = await arrivalsOf(context, options, client, trace);
  if (options.output === 'json' || options.output === 'yaml')
    context.out(
      renderData(versioned('CallTrace', { host: answer.host, query, trace, arrivals }), options.output).trimEnd(),
    );
  else {
    const places = await createPlaces(context, options.filename ?? [], client);
    context.out(
      await traceText(
        `${answer.host}${query.workload === undefined ? '' : ` (${query.workload})`}`,
        query,
        trace,
        arrivals,
        places,
      ),
    );
  }
  return fails(trace, arrivals) ? EXIT.failed : EXIT.ok;
};

/** `A -> B:PORT/PATH` in one argument or several, the arrow optional. */
export function parseCall(args: readonly string[]): { from: string; to: string; port: number; path: string } {
  if (args.at(-1) === '-')
    throw new MeshError(
      'USAGE',
      "the shell took `>` for itself: quote the arrow, '->', or leave it out (and look for a file named like the target)",
    );
  const words = args.flatMap((arg) => arg.split(/\s+/)).filter((word) => word !== '' && word !== '->');
  const [from = '', target = '', ...more] = words.length === 1 ? (words[0] as string).split('->') : words;
  const found = /^(\[[0-9a-fA-F:.]+\]|[^:/[\]]+):(\d{1,5})(\/.*)?$/.exec(target.replace(/^https?:\/\//, ''));
  if (from === '' || found === null || more.length > 0)
    throw new MeshError('USAGE', "give HOST[/WORKLOAD] '->' NAME:PORT[/PATH], e.g. web-1 '->' reviews:9080/ratings");
  const [, name = '', port, path = '/'] = found;
  return { from, to: name.replace(/^\[|\]$/g, ''), port: Number(port), path };
}

function headersOf(given: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    given.map((text) => {
      const found = /^([^=:\s]+)\s*[=:]\s*(.*)$/.exec(text);
      if (found === null) throw new MeshError('USAGE', `--header ${text.slice(0, 100)}: NAME=VALUE is meant`);
      return [(found[1] as string).toLowerCase(), found[2] as string];
    }),
  );
}

/** Asks hosts that the call may reach whether they take it in. */
async function arrivalsOf(
  context: CliContext,
  options: GlobalOptions,
  client: ApiClient | undefined,
  trace: Trace,
): Promise<Arrival[]> {
  if (trace.targets.length === 0) return [];
  const hosts = client === undefined ? undefined : await hostsByAddress(client);
  if (hosts === undefined) return [];
  const arrivals: Arrival[] = [];
  for (const target of trace.targets) {
    const reachable = target.endpoints.filter(({ healthy, address }) => healthy && hosts.has(address));
    for (const { address, port } of reachable.slice(0, ASKED_OF_CLUSTER)) {
      const host = hosts.get(address) as string;
      const endpoint = `${address.includes(':') ? `[${address}]` : address}:${port}`;
      if (arrivals.some((one) => one.host === host && one.endpoint === endpoint)) continue;
      try {
        const { trace: arrived } = await lookInto(context, options, host, admitQuery(target, port, trace));
        arrivals.push({ host, endpoint, ...(arrived === undefined ? { unknown: 'no answer' } : { trace: arrived }) });
      } catch (error) {
        if (!hasCode(error, 'API_REFUSED')) throw error;
        arrivals.push({ host, endpoint, unknown: error.message });
      }
    }
  }
  return arrivals;
}

function admitQuery({ mtls }: CallTarget, port: number, { peer, http }: Trace): AdmitQuery {
  return {
    ask: 'admit',
    port,
    ...(mtls && peer !== undefined ? { peer } : {}),
    ...(http === undefined ? {} : { http }),
  };
}

/** Undefined when the credential may not read hosts. */
async function hostsByAddress(client: ApiClient): Promise<Map<string, string> | undefined> {
  try {
    const hosts = (await listObjects(client, HOST_KIND, {})) as unknown as Host[];
    return new Map(
      hosts.flatMap((host) =>
        host.spec.gossipAddresses.map((address) => [
          address.replace(/:\d+$/, '').replace(/^\[|\]$/g, ''),
          host.metadata.name,
        ]),
      ),
    );
  } catch (error) {
    if (hasCode(error, 'API_REFUSED') && error.details.httpStatus === 403) return undefined;
    throw error;
  }
}

function stopOf(trace: Trace | undefined): Step | undefined {
  return trace?.steps.find((step) => step.verdict === 'stop');
}

function fails(trace: Trace, arrivals: readonly Arrival[]): boolean {
  return stopOf(trace) !== undefined || arrivals.some((one) => stopOf(one.trace) !== undefined);
}

async function traceText(
  from: string,
  { to, port, path }: WhyQuery,
  trace: Trace,
  arrivals: readonly Arrival[],
  places: Places,
): Promise<string> {
  const bytes = trace.http === undefined && trace.targets.length > 0;
  const lines = [plain(`${from} -> ${to}:${port}${bytes ? '' : path}`)];
  for (const step of trace.steps) lines.push(...(await stepLines(step, places)));
  for (const { host, endpoint, trace: arrived, unknown } of arrivals) {
    lines.push(plain(`on ${host} (${endpoint}):`));
    if (unknown !== undefined) lines.push(plain(`  not known: ${unknown}`));
    for (const step of arrived?.steps ?? []) lines.push(...(await stepLines(step, places)));
  }
  if (trace.targets.length > 0 && arrivals.length === 0)
    lines.push('policy of the other side: not asked (its hosts are not known here)');
  lines.push(verdictLine(trace, arrivals));
  return lines.join('\n');
}

const MARKS = { ok: 'ok', stop: 'STOP', unsure: '?' } as const;

async function stepLines(step: Step, places: Places): Promise<string[]> {
  const lines = [`  ${step.step.padEnd(12)}${MARKS[step.verdict].padEnd(6)}${step.summary}`];
  const indent = ' '.repeat(22);
  for (const detail of step.details) lines.push(`${indent}${detail}`);
  for (const { object, path } of step.decidedBy) {
    const place = await places.find(object, path ?? '');
    lines.push(
      `${indent}by ${object}${path === undefined ? '' : ` ${path}`}${place === undefined ? '' : ` (${place})`}`,
    );
  }
  return lines.map((line) => line.split('\n').map(plain).join(' ').trimEnd());
}

function verdictLine(trace: Trace, arrivals: readonly Arrival[]): string {
  const stop = stopOf(trace);
  const others = trace.targets.length > 0 && stop !== undefined ? ' for a part of the calls' : '';
  if (stop !== undefined) return plain(`=> fails at ${stop.step}${others}`);
  const refused = arrivals.filter((one) => stopOf(one.trace) !== undefined);
  if (refused.length > 0) return plain(`=> refused by ${refused.map((one) => one.host).join(', ')}`);
  const unsure = [trace, ...arrivals.map((one) => one.trace)].some((one) =>
    one?.steps.some((step) => step.verdict === 'unsure'),
  );
  return unsure ? '=> depends on what is marked with ?' : '=> is served';
}

import { crossCheck, type MeshLookup } from '../../api/resources/cross-check.ts';
import { keyOf, type MeshObject } from '../../api/resources/object.ts';
import { KINDS } from '../../api/resources/registry.ts';
import { validateObject } from '../../api/resources/validate.ts';
import { connectApi } from '../client/connect.ts';
import { listObjects } from '../client/resources.ts';
import { place, readSources, type SourcedObject } from '../client/sources.ts';
import { type CliContext, type Command, EXIT, type GlobalOptions } from '../context.ts';
import { type OutputFormat, renderData, versioned } from '../output/json.ts';
import { plain } from '../output/table.ts';
import { title } from './apply.ts';

interface AnalyzeOptions {
  readonly filename?: readonly string[];
  readonly namespace?: string;
  readonly output?: OutputFormat;
}

interface Finding {
  readonly severity: 'error' | 'warning';
  readonly object: string;
  readonly path: string;
  readonly message: string;
  /** `FILE:LINE:COL`; absent for the live mesh. */
  readonly at?: string;
}

/** `meshctl analyze -f` checks files by themselves, offline; without -f the live mesh. Exit 1 when there are errors. */
export const analyze: Command<AnalyzeOptions> = async (context, options) => {
  const findings =
    options.filename === undefined
      ? await analyzeLive(context, options)
      : await analyzeFiles(context, options, options.filename);
  if (options.output === 'json' || options.output === 'yaml') {
    context.out(renderData(versioned('Analysis', { findings }), options.output).trimEnd());
  } else {
    for (const { severity, object, path, message, at } of findings)
      context.out(
        plain(
          `${at === undefined ? '' : `${at}: `}${severity}: ${object}: ${path === '' ? '' : `${path}: `}${message}`,
        ),
      );
    const errors = findings.filter(({ severity }) => severity === 'error').length;
    context.err(findings.length === 0 ? 'no problems found' : `${errors} errors, ${findings.length - errors} warnings`);
  }
  return findings.some(({ severity }) => severity === 'error') ? EXIT.failed : EXIT.ok;
};

async function analyzeFiles(
  context: CliContext,
  options: AnalyzeOptions,
  files: readonly string[],
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const accepted: { object: MeshObject; source: SourcedObject }[] = [];
  const seen = new Map<string, SourcedObject>();
  for (const source of await readSources(context, files)) {
    const at = (path: string): string => place(source, path);
    const add = (severity: Finding['severity'], path: string, message: string): void => {
      findings.push({ severity, object: title(source), path, message, at: at(path) });
    };
    const { object, violations, warnings } = validateObject(
      source.source.value,
      namespaceFor(source, options.namespace),
    );
    for (const { path, message } of violations) add('error', path, message);
    for (const { path, message } of warnings) add('warning', path, message);
    if (object === undefined) continue;
    const earlier = seen.get(keyOf(object));
    if (earlier !== undefined)
      add('error', 'metadata.name', `the same object is in ${place(earlier, 'metadata.name')} already`);
    seen.set(keyOf(object), source);
    accepted.push({ object, source });
  }
  // An object that was refused would be missing to the others: first things first.
  if (findings.some(({ severity }) => severity === 'error')) return findings;
  const lookup = lookupIn(accepted.map(({ object }) => object));
  for (const { object, source } of accepted) {
    for (const { path, message } of crossCheck(object, lookup))
      findings.push({ severity: 'warning', object: title(source), path, message, at: place(source, path) });
  }
  return findings;
}

/** `-n` is for objects that name no namespace. */
function namespaceFor(source: SourcedObject, namespace: string | undefined): { namespace?: string } {
  const own = (source.source.value as { metadata?: { namespace?: unknown } } | null)?.metadata?.namespace;
  return own === undefined && namespace !== undefined ? { namespace } : {};
}

async function analyzeLive(context: CliContext, options: GlobalOptions & AnalyzeOptions): Promise<Finding[]> {
  const client = await connectApi(context, options);
  const objects: MeshObject[] = [];
  for (const info of KINDS.filter((one) => one.stored && one.kind !== 'Secret'))
    objects.push(...(await listObjects(client, info, {})));
  const lookup = lookupIn(objects);
  return objects.flatMap((object) =>
    crossCheck(object, lookup).map(
      ({ path, message }): Finding => ({ severity: 'warning', object: keyOf(object), path, message }),
    ),
  );
}

function lookupIn(objects: readonly MeshObject[]): MeshLookup {
  const byKind = new Map<string, MeshObject[]>();
  for (const object of objects) byKind.set(object.kind, [...(byKind.get(object.kind) ?? []), object]);
  return { list: (kind) => byKind.get(kind) ?? [] };
}

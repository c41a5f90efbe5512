import { hasCode } from '../../api/errors.ts';
import type { Host } from '../../api/http/operator-api.ts';
import { analyze as analyzeObjects } from '../../api/resources/analysis/analyze.ts';
import { CODES, type Finding } from '../../api/resources/analysis/finding.ts';
import type { HostFact } from '../../api/resources/analysis/model.ts';
import { parseDocuments } from '../../api/resources/documents.ts';
import { keyOf, type MeshObject } from '../../api/resources/object.ts';
import { KINDS, type KindInfo, kindByName } from '../../api/resources/registry.ts';
import { validateObject } from '../../api/resources/validate.ts';
import type { ApiClient } from '../client/api-client.ts';
import { connectApi } from '../client/connect.ts';
import { listObjects } from '../client/resources.ts';
import { place, readSources, type SourcedObject } from '../client/sources.ts';
import { type CliContext, type Command, EXIT } from '../context.ts';
import { type OutputFormat, renderData, versioned } from '../output/json.ts';
import { plain } from '../output/table.ts';
import { title } from './apply.ts';

interface AnalyzeOptions {
  readonly filename?: readonly string[];
  readonly namespace?: string;
  readonly live?: boolean;
  readonly output?: OutputFormat;
}

interface Told {
  readonly severity: Finding['severity'];
  readonly code: Finding['code'];
  readonly object: string;
  readonly path: string;
  readonly message: string;
  /** `FILE:LINE:COL`; of the live mesh `KIND/NAMESPACE/NAME:LINE:COL`, as `get -o yaml` prints the object. */
  readonly at: string;
}

const HOST_KIND = kindByName('Host') as KindInfo;

/**
 * `meshctl analyze -f` checks files by themselves, offline; with --live beside what the mesh holds; without -f the live mesh. Exit 1 when there
 * are errors.
 */
export const analyze: Command<AnalyzeOptions> = async (context, options) => {
  const client = options.filename === undefined || options.live ? await connectApi(context, options) : undefined;
  const mesh = client === undefined ? undefined : await readMesh(client, options.namespace);
  const found =
    options.filename === undefined
      ? analyzeMesh(mesh as Mesh, options.namespace)
      : await analyzeFiles(context, options, options.filename, mesh);
  const told = found.sort((a, b) => (a.severity === b.severity ? 0 : a.severity === 'error' ? -1 : 1));
  if (options.output === 'json' || options.output === 'yaml')
    context.out(renderData(versioned('Analysis', { findings: told }), options.output).trimEnd());
  else say(context, told, options, mesh);
  return told.some(({ severity }) => severity === 'error') ? EXIT.failed : EXIT.ok;
};

function say(context: CliContext, told: readonly Told[], options: AnalyzeOptions, mesh: Mesh | undefined): void {
  for (const { severity, code, object, path, message, at } of told)
    context.out(plain(`${at}: ${severity} [${code}]: ${object}: ${path === '' ? '' : `${path}: `}${message}`));
  const errors = told.filter(({ severity }) => severity === 'error').length;
  const checked =
    options.filename === undefined
      ? 'the live mesh'
      : mesh === undefined
        ? 'these files by themselves; with --live they are checked beside what the mesh holds'
        : 'these files beside the live mesh';
  context.err(
    told.length === 0
      ? `no problems found in ${checked}`
      : `${errors} errors, ${told.length - errors} warnings in ${checked}`,
  );
}

/** What a controller holds, as far as the credential may read. */
interface Mesh {
  readonly objects: readonly MeshObject[];
  readonly complete: boolean;
  readonly hosts?: readonly HostFact[];
}

async function readMesh(client: ApiClient, namespace: string | undefined): Promise<Mesh> {
  const kinds = KINDS.filter((one) => one.stored);
  const all = async (scope: { namespace?: string }, list: readonly KindInfo[]) => {
    const objects: MeshObject[] = [];
    for (const info of list) objects.push(...(await listObjects(client, info, scope)));
    return objects;
  };
  try {
    const objects = await all({}, kinds);
    const hosts = (await listObjects(client, HOST_KIND, {})) as unknown as Host[];
    const grants = hosts.map(({ metadata, spec }) => ({ name: metadata.name, ...spec }));
    return { objects, complete: true, hosts: grants };
  } catch (error) {
    // A principal of one namespace reads that one: what it does not see may be there.
    if (!hasCode(error, 'API_REFUSED') || error.details.httpStatus !== 403 || namespace === undefined) throw error;
    const namespaced = kinds.filter((info) => info.namespaced);
    return { objects: await all({ namespace }, namespaced), complete: false };
  }
}

function analyzeMesh({ objects, complete, hosts }: Mesh, namespace: string | undefined): Told[] {
  const about = new Set(
    objects.filter((object) => namespace === undefined || object.metadata.namespace === namespace).map(keyOf),
  );
  const byKey = new Map(objects.map((object) => [keyOf(object), object]));
  return analyzeObjects(objects, { complete, about, ...(hosts === undefined ? {} : { hosts }) }).map((finding) => ({
    ...finding,
    at: `${finding.object}:${storedPlace(byKey.get(finding.object), finding.path)}`,
  }));
}

function storedPlace(object: MeshObject | undefined, path: string): string {
  const { line, col } = parseDocuments(renderData(object, 'yaml')).objects[0]?.locate(path) ?? { line: 1, col: 1 };
  return `${line}:${col}`;
}

async function analyzeFiles(
  context: CliContext,
  options: AnalyzeOptions,
  files: readonly string[],
  mesh: Mesh | undefined,
): Promise<Told[]> {
  const told: Told[] = [];
  const accepted = new Map<string, { readonly object: MeshObject; readonly source: SourcedObject }>();
  for (const source of await readSources(context, files)) {
    const add = (severity: Told['severity'], code: keyof typeof CODES, path: string, message: string): void => {
      told.push({ severity, code: CODES[code], object: title(source), path, message, at: place(source, path) });
    };
    const { object, violations, warnings } = validateObject(
      source.source.value,
      namespaceFor(source, options.namespace),
    );
    for (const { path, message } of violations) add('error', 'invalid', path, message);
    for (const { path, message } of warnings) add('warning', 'doubtful', path, message);
    if (object === undefined) continue;
    const earlier = accepted.get(keyOf(object));
    if (earlier !== undefined)
      add(
        'error',
        'invalid',
        'metadata.name',
        `the same object is in ${place(earlier.source, 'metadata.name')} already`,
      );
    accepted.set(keyOf(object), { object, source });
  }
  // An object that was refused would be missing to the others: first things first.
  if (told.some(({ severity }) => severity === 'error')) return told;
  const beside = (mesh?.objects ?? []).filter((object) => !accepted.has(keyOf(object)));
  const objects = [...beside, ...[...accepted.values()].map(({ object }) => object)];
  const findings = analyzeObjects(objects, {
    complete: mesh?.complete ?? false,
    about: new Set(accepted.keys()),
    ...(mesh?.hosts === undefined ? {} : { hosts: mesh.hosts }),
  });
  for (const finding of findings) {
    const { source } = accepted.get(finding.object) as { source: SourcedObject };
    told.push({ ...finding, object: title(source), at: place(source, finding.path) });
  }
  return told;
}

/** `-n` is for objects that name no namespace. */
function namespaceFor(source: SourcedObject, namespace: string | undefined): { namespace?: string } {
  const own = (source.source.value as { metadata?: { namespace?: unknown } } | null)?.metadata?.namespace;
  return own === undefined && namespace !== undefined ? { namespace } : {};
}

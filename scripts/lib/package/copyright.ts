/** What a package's copyright file and changelogs say (pure). Formats: Debian's copyright-format 1.0 and Policy 4.4. */
import type { BundledLicence } from './bundle.ts';

const HOME = 'https://hostmesh.io';
const FORMAT = 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/';
const APACHE = [
  'License: Apache-2.0',
  ' On Debian systems the text of the Apache License, Version 2.0, is in',
  ' /usr/share/common-licenses/Apache-2.0; elsewhere see',
  ' https://www.apache.org/licenses/LICENSE-2.0.',
];
/** Beside copyright in the package's doc folder: what others' licences say, word for word. */
export const LICENCES_FILE = 'third-party-licences';

/** Of a program of ours: whose npm packages are in its one file. */
export function programCopyright(name: string, licences: readonly BundledLicence[]): string {
  const others = licences.map(({ name, version, licence }) => ` ${name} ${version} (${licence})`);
  return lines([
    FORMAT,
    'Upstream-Name: Hostmesh',
    `Source: ${HOME}`,
    'Comment: The program is one file with npm packages in it, listed below. Their',
    ` licences are in /usr/share/doc/${name}/${LICENCES_FILE}.gz.`,
    ...others,
    '',
    'Files: *',
    'Copyright: 2026 Hostmesh contributors',
    'License: Apache-2.0',
    '',
    ...APACHE,
  ]);
}

/** The licences of npm packages word for word; equal texts are printed once. */
export function programLicences(licences: readonly BundledLicence[]): string {
  const byText = new Map<string, string[]>();
  for (const { name, version, licence, text } of licences) {
    const said = text === '' ? `(ships no licence file; its package.json says ${licence})` : text;
    byText.set(said, [...(byText.get(said) ?? []), `${name} ${version}`]);
  }
  return [...byText].map(([text, names]) => `=== ${names.join(', ')} ===\n\n${text}\n`).join('\n');
}

/** Of a package with a file that somebody else made. */
export function vendorCopyright(
  name: string,
  upstream: string,
  source: string,
  holder: string,
  licence: string,
): string {
  const text =
    licence === 'Apache-2.0' ? APACHE : [`License: ${licence}`, ` As in /usr/share/doc/${name}/${LICENCES_FILE}.gz.`];
  return lines([
    FORMAT,
    `Upstream-Name: ${upstream}`,
    `Source: ${source}`,
    'Comment: The file as its makers publish it, unchanged. What they say of its',
    ` licence, and of the parts in it, is in /usr/share/doc/${name}/${LICENCES_FILE}.gz.`,
    '',
    'Files: *',
    `Copyright: ${holder}`,
    `License: ${licence}`,
    '',
    ...text,
  ]);
}

function lines(all: readonly string[]): string {
  return `${all.join('\n')}\n`;
}

/** Words in lines of at most `width`. */
export function wrap(text: string, width: number): string[] {
  const out: string[] = [];
  for (const word of text.split(/\s+/)) {
    const last = out.at(-1);
    if (last === undefined || last.length + 1 + word.length > width) out.push(word);
    else out[out.length - 1] = `${last} ${word}`;
  }
  return out;
}

/** One version's changes, in the users' words; the newest first. */
export interface Release {
  readonly version: string;
  readonly date: Date;
  readonly changes: readonly string[];
}

/** debian/changelog. versions as Debian writes them (0.1.0-1). */
export function debianChangelog(name: string, releases: readonly Release[], maintainer: string): string {
  return releases
    .map(({ version, date, changes }) => {
      const items = changes.map((change) => `  * ${wrap(change, 74).join('\n    ')}\n`).join('');
      const signed = `${maintainer}  ${date.toUTCString().replace('GMT', '+0000')}`;
      return `${name} (${version}) stable; urgency=medium\n\n${items}\n -- ${signed}\n`;
    })
    .join('\n');
}

/** The same for nfpm, which writes it into an rpm's header. */
export function rpmChangelog(releases: readonly Release[], maintainer: string): object[] {
  return releases.map(({ version, date, changes }) => ({
    semver: version,
    date: date.toISOString(),
    packager: maintainer,
    changes: changes.map((note) => ({ note })),
  }));
}

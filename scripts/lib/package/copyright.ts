/** What a package's copyright file and changelogs say (pure). Formats: Debian's copyright-format 1.0 and Policy 4.4. */
import type { BundledLicence } from './bundle.ts';

const HOME = 'https://hostmesh.io';

/** Licences of the program and of the npm packages in its one file; equal texts are printed once. */
export function programCopyright(licences: readonly BundledLicence[]): string {
  const out = [
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/',
    'Upstream-Name: Hostmesh',
    `Source: ${HOME}`,
    '',
    'Files: *',
    'Copyright: Hostmesh contributors',
    'License: Apache-2.0',
    '',
    'License: Apache-2.0',
    ' On Debian systems the text of the Apache License, Version 2.0, is in',
    ' /usr/share/common-licenses/Apache-2.0; elsewhere see',
    ' https://www.apache.org/licenses/LICENSE-2.0.',
  ];
  if (licences.length === 0) return `${out.join('\n')}\n`;
  out.push('', 'Comment: The program is one file with these npm packages in it:');
  for (const { name, version, licence } of licences) out.push(`  ${name} ${version} (${licence})`);
  out.push(' .', ' Their licences:');
  const byText = new Map<string, string[]>();
  for (const { name, text } of licences) if (text !== '') byText.set(text, [...(byText.get(text) ?? []), name]);
  for (const [text, names] of byText) out.push(' .', ...indented(`${names.join(', ')}:\n\n${text}`));
  return `${out.join('\n')}\n`;
}

/** Of a package with a file that somebody else made. text: the licence that came with it. */
export function vendorCopyright(name: string, source: string, text: string): string {
  return [
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/',
    `Upstream-Name: ${name}`,
    `Source: ${source}`,
    'Comment: The file as its makers publish it, unchanged. What they say of its licence:',
    ...indented(text),
    ' .',
    ' On Debian systems the text of the Apache License, Version 2.0, is in',
    ' /usr/share/common-licenses/Apache-2.0.',
    '',
  ].join('\n');
}

function indented(text: string): string[] {
  return text
    .trim()
    .split(/\r?\n/)
    .map((line) => (line.trim() === '' ? ' .' : ` ${line.trimEnd()}`));
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
    .map(
      ({ version, date, changes }) =>
        `${name} (${version}) stable; urgency=medium\n\n${changes.map((line) => `  * ${line}\n`).join('')}\n -- ${maintainer}  ${date.toUTCString().replace('GMT', '+0000')}\n`,
    )
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

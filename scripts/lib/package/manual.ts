/** Man pages and shell completion, made of what they describe (pure), so that they cannot say something else than the programs do. */

export interface PageHead {
  readonly name: string;
  readonly section: number;
  readonly version: string;
  /** Of the release; UTC. */
  readonly date: Date;
}

/** Text as roff shows it verbatim: backslashes, and lines that begin like a request. */
export function roffText(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('’', '\\(cq')
    .replaceAll('…', '...')
    .replace(/^([.'])/gm, '\\&$1');
}

function verbatim(text: string): string {
  return `.nf\n${roffText(text.replace(/\n+$/, ''))}\n.fi`;
}

function heading({ name, section, version, date }: PageHead): string {
  return `.TH ${name.toUpperCase()} ${section} ${date.toISOString().slice(0, 10)} "Hostmesh ${version}" "Hostmesh"`;
}

/** A page written by hand with its head put in: packaging/man. */
export function filledPage(text: string, head: PageHead): string {
  return text.replace('@TH@', heading(head));
}

/** Section 5: the reference file is the page. */
export function configPage(head: PageHead, path: string, summary: string, yaml: string, see: string): string {
  return `${[
    heading(head),
    '.SH NAME',
    `${roffText(head.name)} \\- ${roffText(summary)}`,
    '.SH SYNOPSIS',
    `.I ${roffText(path)}`,
    '.SH DESCRIPTION',
    'YAML. This is the reference file: every key with its default. A key that is not known, or a value that is not possible, is refused',
    'with its line and column.',
    '.PP',
    verbatim(yaml),
    '.SH SEE ALSO',
    see,
  ].join('\n')}\n`;
}

/** A command of a help text: `name`, and what the help says of it. */
export interface CommandHelp {
  readonly words: string;
  readonly help: string;
}

/** Section 1 of a program whose commands explain themselves. */
export function helpPage(head: PageHead, summary: string, own: string, commands: readonly CommandHelp[]): string {
  return `${[
    heading(head),
    '.SH NAME',
    `${head.name} \\- ${roffText(summary)}`,
    '.SH SYNOPSIS',
    `.B ${head.name}`,
    '[OPTIONS] COMMAND',
    '.SH DESCRIPTION',
    verbatim(own),
    '.SH COMMANDS',
    ...commands.flatMap(({ words, help }) => [`.SS ${roffText(words)}`, verbatim(help)]),
    '.SH EXIT STATUS',
    '0 done, 1 failed or refused, 64 wrong usage.',
    '.SH SEE ALSO',
    '.BR mesh\\-agent (8),',
    '.BR mesh\\-controller (8)',
  ].join('\n')}\n`;
}

/** Names below `Commands:` of a help text; commander's own `help` is left out. */
export function commandsOf(help: string): string[] {
  const part = /^Commands:\n([\s\S]*)/m.exec(help)?.[1] ?? '';
  return [...part.matchAll(/^ {2}([a-z][a-z-]*)/gm)].map((match) => match[1]!).filter((name) => name !== 'help');
}

/** Of a help text that explains its commands itself: what it says of one of them, and the options of all. */
export function commandPart(help: string, name: string): string {
  const lines = (/^Commands:\n([\s\S]*?)(?:\n\n|$(?![\s\S]))/m.exec(help)?.[1] ?? '').split('\n');
  const from = lines.findIndex((line) => line.startsWith(`  ${name} `));
  const next = lines.findIndex((line, i) => i > from && /^ {2}\S/.test(line));
  const own = from < 0 ? [] : lines.slice(from, next < 0 ? undefined : next);
  return `${own.join('\n')}\n${/^Options:\n[\s\S]*/m.exec(help)?.[0] ?? ''}`;
}

/** Long options of a help text. */
export function optionsOf(help: string): string[] {
  return [...new Set([...help.matchAll(/(?<![\w-])--[a-z][a-z-]*/g)].map((match) => match[0]))];
}

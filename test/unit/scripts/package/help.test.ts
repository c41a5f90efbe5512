// Manual pages and completion name every command of every program's --help, and no other.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'tap';
import { PROGRAMS, type ProgramName } from '../../../../scripts/lib/package/bundle.ts';
import { bashCompletion, fishCompletion, zshCompletion } from '../../../../scripts/lib/package/completion.ts';
import { programHelp } from '../../../../scripts/lib/package/help.ts';
import { commandsOf, helpPage, optionsOf } from '../../../../scripts/lib/package/manual.ts';

const ROOT = resolve(import.meta.dirname, '../../../..');
const HEAD = { name: 'x', section: 1, version: '1.2.3', date: new Date('2026-01-02T03:04:05Z') };
/** What each program certainly has: a help text that is no longer understood would compare nothing with nothing. */
const SOME: Readonly<Record<ProgramName, readonly string[]>> = {
  'mesh-agent': ['join', 'run', 'leave', 'check-config', 'redirect', 'redirect order', 'redirect apply'],
  'mesh-controller': ['init', 'run', 'check-config'],
  meshctl: ['apply', 'token create', 'proxy-config routes', 'why'],
};

const plain = (roff: string) => roff.replaceAll('\\-', '-');

/** Commands with a paragraph of their own: `.B run` or `.BR redirect " plan"` below `.TP`, `.SS token create`. */
function documented(page: string): string[] {
  const commands = /^\.SH COMMANDS\n([\s\S]*?)^\.SH /m.exec(page)?.[1] ?? '';
  const tagged = [...commands.matchAll(/^\.TP\n\.(?:B (.+)|BR (\S+) "( .+)")$/gm)];
  const sections = [...commands.matchAll(/^\.SS (.+)$/gm)];
  return [
    ...tagged.map(([, bold, first, more]) => bold ?? `${first}${more}`),
    ...sections.map(([, words]) => words ?? ''),
  ]
    .map(plain)
    .sort();
}

for (const program of Object.keys(PROGRAMS) as ProgramName[])
  test(`${program}: help, manual page and completion agree`, async (t) => {
    const { own, commands } = await programHelp(ROOT, program);
    const words = commands.map((one) => one.words);
    for (const some of SOME[program]) t.ok(words.includes(some), some);

    const page =
      program === 'meshctl'
        ? helpPage(HEAD, 'does', own, commands)
        : readFileSync(`packaging/man/${program}.8`, 'utf8');
    // `redirect` alone does nothing: its verbs have the paragraphs
    const told = program === 'meshctl' ? words : words.filter((one) => one !== 'redirect');
    t.same(documented(page), [...told].sort(), 'manual page');

    const bash = bashCompletion(program, own, commands);
    const zsh = zshCompletion(program, own, commands);
    const fish = fishCompletion(program, own, commands);
    for (const { words: at, help } of [{ words: '', help: own }, ...commands]) {
      const offered = [...commandsOf(help), ...optionsOf(help)].sort();
      t.ok(offered.includes('--help') || at !== '', `${at}: understood`);
      const typed = [program, ...at.split(' ').filter((word) => word !== ''), ''];
      const run = `${bash}\nCOMP_WORDS=(${typed.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${typed.length - 1}
_${program.replace('-', '_')}; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const { stdout, stderr } = spawnSync('bash', ['-c', run], { encoding: 'utf8' });
      t.equal(stderr, '');
      t.same(stdout.trim().split('\n').sort(), offered, `bash: ${at}`);
      t.ok(zsh.includes(`'${at}') offered=(`), `zsh: ${at}`);
      t.ok(fish.includes(`_at '${at}'" -a '`), `fish: ${at}`);
    }
  });

test('a word of an option is offered where it stands', async (t) => {
  const { commands } = await programHelp(ROOT, 'mesh-agent');
  const options = (words: string) => optionsOf(commands.find((one) => one.words === words)?.help ?? '');
  t.ok(options('join').includes('--join-file'));
  t.notOk(options('leave').includes('--join-file'), 'of another command');
  t.ok(options('leave').includes('--config'), 'of all commands');
  t.ok(options('redirect order').includes('--dry-run'));
});

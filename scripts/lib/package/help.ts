/** What our programs say when they are asked for help: the source of manual pages and completion. In: a program. Out: its texts. Asks nothing else. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { runCli } from '../../../cli/program.ts';
import { PROGRAMS, type ProgramName } from './bundle.ts';
import { type CommandHelp, commandPart, commandsOf } from './manual.ts';

/** A program's own help, and that of each of its commands, those below a command too. */
export interface ProgramHelp {
  readonly own: string;
  readonly commands: readonly CommandHelp[];
}

/** `root`: the checkout. */
export async function programHelp(root: string, program: ProgramName): Promise<ProgramHelp> {
  if (program === 'meshctl') return { own: await meshctl([]), commands: await meshctlCommands([]) };
  const main = join(root, PROGRAMS[program], 'main.ts');
  const ask = (words: readonly string[]) => {
    const { stdout, stderr } = spawnSync(process.execPath, [main, ...words, '--help'], { encoding: 'utf8', env: {} });
    if (stdout === '') throw new Error(`${program} ${words.join(' ')} --help says nothing: ${stderr}`);
    return stdout;
  };
  const own = ask([]);
  const commands: CommandHelp[] = [];
  for (const name of commandsOf(own)) {
    if (name !== 'redirect') commands.push({ words: name, help: commandPart(own, name) });
    else {
      const help = ask([name]);
      commands.push({ words: name, help });
      for (const verb of commandsOf(help)) commands.push({ words: `${name} ${verb}`, help: commandPart(help, verb) });
    }
  }
  return { own, commands };
}

async function meshctlCommands(path: readonly string[]): Promise<CommandHelp[]> {
  const found: CommandHelp[] = [];
  for (const name of commandsOf(await meshctl(path))) {
    const words = [...path, name];
    found.push({ words: words.join(' '), help: await meshctl(words) }, ...(await meshctlCommands(words)));
  }
  return found;
}

async function meshctl(words: readonly string[]): Promise<string> {
  const lines: string[] = [];
  const keep = (text: string) => void lines.push(text);
  await runCli([...words, '--help'], {
    env: {},
    home: '/',
    out: keep,
    err: keep,
    readStdin: async () => '',
    now: () => 0,
  });
  return `${lines.join('\n')}\n`;
}

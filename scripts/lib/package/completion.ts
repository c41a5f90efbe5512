/**
 * Shell completion of a program with commands and subcommands. In: the help texts. Out: a file a shell; each offers what the help names at that
 * place, files after an option that takes one. It must run nothing but the shell: no question to a mesh while somebody types.
 */
import { type CommandHelp, commandsOf, optionsOf } from './manual.ts';

/** Options whose value is a file. */
const FILE_OPTIONS = ['--*-file', '--socket', '-f', '--filename', '--config', '--spec', '--result', '--state-dir'];

/** Of the shell functions of a program. */
const functionName = (program: string) => `_${program.replaceAll('-', '_')}`;

/** What may follow each command; '' is the program itself. */
function offers(own: string, commands: readonly CommandHelp[]): [string, string][] {
  return [{ words: '', help: own }, ...commands].map(({ words, help }) => [
    words,
    [...commandsOf(help), ...optionsOf(help)].join(' '),
  ]);
}

const quoted = (commands: readonly CommandHelp[], between: string) =>
  commands.map(({ words }) => `'${words}'`).join(between);

/** bash completion. */
export function bashCompletion(program: string, own: string, commands: readonly CommandHelp[]): string {
  const cases = offers(own, commands).map(([words, offered]) => `    '${words}') words='${offered}' ;;`);
  return `# bash completion for ${program}; made from its help by scripts/package
${functionName(program)}() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} path='' word words
  COMPREPLY=()
  case "$previous" in
    ${FILE_OPTIONS.join(' | ')}) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
  esac
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${path:+$path }$word" in
      ${quoted(commands, ' | ')}) path="\${path:+$path }$word" ;;
    esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F ${functionName(program)} ${program}
`;
}

/** zsh completion: a function for a folder of fpath. */
export function zshCompletion(program: string, own: string, commands: readonly CommandHelp[]): string {
  const cases = offers(own, commands).map(([words, offered]) => `  '${words}') offered=(${offered}) ;;`);
  return `#compdef ${program}
# zsh completion for ${program}; made from its help by scripts/package
local at='' word
local -a offered
case "\${words[CURRENT-1]}" in
  ${FILE_OPTIONS.join(' | ')}) _files; return ;;
esac
for word in "\${(@)words[2,CURRENT-1]}"; do
  case "\${at:+$at }$word" in
    ${quoted(commands, ' | ')}) at="\${at:+$at }$word" ;;
  esac
done
case "$at" in
${cases.join('\n')}
esac
compadd -- $offered
`;
}

/** fish completion. */
export function fishCompletion(program: string, own: string, commands: readonly CommandHelp[]): string {
  const lines = offers(own, commands).map(
    ([words, offered]) => `complete -c ${program} -n "_${functionName(program)}_at '${words}'" -a '${offered}'`,
  );
  return `# fish completion for ${program}; made from its help by scripts/package
function _${functionName(program)}_at
  set -l at ''
  set -l typed (commandline -opc)
  for word in $typed[2..-1]
    switch (string trim -- "$at $word")
      case ${quoted(commands, ' ')}
        set at (string trim -- "$at $word")
    end
  end
  test "$at" = "$argv[1]"
end
function _${functionName(program)}_takes_file
  string match -qr -- '^(${FILE_OPTIONS.join('|').replace('*', '.*')})$' (commandline -opc)[-1]
end
complete -c ${program} -f
complete -c ${program} -n _${functionName(program)}_takes_file -F
${lines.join('\n')}
`;
}

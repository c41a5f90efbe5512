/** Command lines that cannot be meant, of the programs an operator types by hand: what is printed, and the exit code. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

const cases: [name: string, program: string, args: string[], code: number, says: RegExp][] = [
  ['nothing', 'agent', [], 64, /^mesh-agent: a command is missing\n\nusage:/],
  ['a command that is none', 'agent', ['start'], 64, /^mesh-agent: unknown command start\n\nusage:/],
  ['a word too many', 'agent', ['run', 'now'], 64, /^mesh-agent: unexpected now\n\nusage:/],
  ['an option that is none', 'agent', ['run', '--colour'], 64, /^mesh-agent: Unknown option '--colour'\n\nusage:/],
  ['no agent.yaml', 'agent', ['run', '--config', 'DIR/a.yaml'], 78, /^mesh-agent: \S+a\.yaml: there is no such file/],
  ['a folder', 'agent', ['check-config', '--config', 'DIR'], 78, /^mesh-agent: \S+: cannot read it: EISDIR.*\n$/],
  [
    'two faults',
    'agent',
    ['check-config', '--config', '/dev/null'],
    78,
    /^mesh-agent: \S+ host is .*\n\S+ trustDomain is .*\n$/,
  ],
  [
    'a file that never ends',
    'agent',
    ['run', '--config', '/dev/zero'],
    78,
    /^mesh-agent: \/dev\/zero: larger than 262144 bytes\n$/,
  ],
  ['nothing', 'controller', [], 64, /^mesh-controller: a command is missing\n\nusage:/],
  ['a command that is none', 'controller', ['start'], 64, /^mesh-controller: unknown command start\n\nusage:/],
  ['no controller.yaml', 'controller', ['run', '--config', 'DIR/c.yaml'], 78, /c\.yaml: there is no such file/],
];

for (const [name, program, args, code, says] of cases) {
  t.test(`${program}: ${name}`, async (t) => {
    const dir = t.testdir();
    const argv = [join(ROOT, program, 'main.ts'), ...args.map((arg) => arg.replace('DIR', dir))];
    const { status, stderr, stdout } = spawnSync(process.execPath, argv, { encoding: 'utf8', timeout: 60_000 });
    t.equal(status, code);
    t.match(stderr, says);
    t.equal(stdout, '');
  });
}

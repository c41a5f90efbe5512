// What the packages say: licences, changelogs, man pages, completion; and the pins that are read from other scripts.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'tap';
import { packageFolders } from '../../../../scripts/lib/package/bundle.ts';
import { bashCompletion, fishCompletion, zshCompletion } from '../../../../scripts/lib/package/completion.ts';
import { debianChangelog, programCopyright, programLicences, wrap } from '../../../../scripts/lib/package/copyright.ts';
import { envoyVersion, nodePins } from '../../../../scripts/lib/package/inputs.ts';
import { commandsOf, configPage, helpPage, optionsOf, roffText } from '../../../../scripts/lib/package/manual.ts';

const HELP = `Usage: x [options] [command]

Options:
  --api <url>           where, like --this or 'that'
  -f, --filename <path...>  file

Commands:
  apply [options]       do
  log-level <level>     set
  help [command]        display help
`;
const HEAD = { name: 'x', section: 1, version: '1.2.3', date: new Date('2026-01-02T03:04:05Z') };

test('npm packages in a bundle, the innermost folder of each', (t) => {
  const inputs = [
    'agent/main.ts',
    'node_modules/@a/b/lib/x.js',
    'node_modules/c/index.js',
    'node_modules/c/node_modules/d/i.js',
    'node_modules/c/other.js',
  ];
  t.strictSame(packageFolders(inputs), ['node_modules/@a/b', 'node_modules/c', 'node_modules/c/node_modules/d']);
  t.end();
});

test('licences: each text once, and a package without one is named', (t) => {
  const licences = [
    { name: 'a', version: '1', licence: 'MIT', text: 'Same' },
    { name: 'b', version: '2', licence: 'MIT', text: 'Same' },
    { name: 'c', version: '3', licence: 'ISC', text: '' },
  ];
  const text = programLicences(licences);
  t.equal(text.split('Same').length, 2);
  t.match(text, /=== a 1, b 2 ===/);
  t.match(text, /=== c 3 ===\n\n\(ships no licence file; its package\.json says ISC\)/);
  t.match(programCopyright('mesh-x', licences), /\n a 1 \(MIT\)\n b 2 \(MIT\)\n c 3 \(ISC\)\n\nFiles: \*/);
  t.end();
});

test('changelog as dpkg-parsechangelog reads it', (t) => {
  const change = 'a long story '.repeat(12).trim();
  const text = debianChangelog('x', [{ version: '1-1', date: HEAD.date, changes: [change] }], 'M <m@x>');
  t.match(text, /^x \(1-1\) stable; urgency=medium\n\n {2}\* a long/);
  t.match(text, /\n -- M <m@x> {2}Fri, 02 Jan 2026 03:04:05 \+0000\n$/);
  for (const line of text.split('\n')) t.ok(line.length <= 80, line);
  t.strictSame(wrap('aa bb cc', 5), ['aa bb', 'cc']);
  t.end();
});

test('roff: nothing of a text becomes a request', (t) => {
  t.equal(roffText(".TH x\n'br\na\\b -c"), "\\&.TH x\n\\&'br\na\\eb \\-c");
  const page = configPage({ ...HEAD, section: 5 }, '/etc/x', 'options', '.key: 1\n', '.BR x (8)');
  t.match(page, /^\.TH X 5 2026-01-02 "Hostmesh 1\.2\.3"/);
  t.match(page, /\n\\&\.key: 1\n/);
  t.match(
    helpPage(HEAD, 'does', HELP, [{ words: 'apply', help: 'Usage: x apply' }]),
    /\n\.SS apply\n\.nf\nUsage: x apply\n/,
  );
  t.end();
});

test('commands and options of a help text', (t) => {
  t.strictSame(commandsOf(HELP), ['apply', 'log-level']);
  t.strictSame(optionsOf(HELP), ['--api', '--this', '--filename']);
  t.strictSame(commandsOf('Usage: x\n'), []);
  t.end();
});

const COMMANDS = [
  { words: 'apply', help: 'Options:\n  --dry-run  d\n' },
  { words: 'token', help: 'Commands:\n  create  c\n' },
  { words: 'token create', help: 'Options:\n  --host <h>  h\n' },
];

// zsh and fish themselves are asked by test/system/packages.test.ts
test('completion for zsh and fish: each place offers what its help names', (t) => {
  const zsh = zshCompletion('x', HELP, COMMANDS);
  t.match(zsh, /^#compdef x\n/);
  t.match(zsh, /\n {2}'token create'\) offered=\(--host\) ;;\n/);
  t.match(zsh, /\n {2}''\) offered=\(apply log-level --api --this --filename\) ;;\n/);
  const fish = fishCompletion('x', HELP, COMMANDS);
  t.match(fish, /\ncomplete -c x -n "__x_at 'token'" -a 'create'\n/);
  t.match(fish, /\n {6}case 'apply' 'token' 'token create'\n/);
  t.end();
});

test('completion, as bash does it', (t) => {
  const script = bashCompletion('x', HELP, COMMANDS);
  const complete = (...words: string[]) => {
    const quoted = words.map((word) => `'${word}'`).join(' ');
    const run = `${script}\nCOMP_WORDS=(x ${quoted}); COMP_CWORD=${words.length}; _x; echo "\${COMPREPLY[*]}"`;
    return spawnSync('bash', ['-c', run], { encoding: 'utf8' }).stdout.trim();
  };
  t.equal(complete('ap'), 'apply');
  t.equal(complete('--a'), '--api');
  t.equal(complete('apply', '--'), '--dry-run');
  t.equal(complete('token', 'c'), 'create');
  t.equal(complete('token', 'create', '--'), '--host');
  t.match(complete('--filename', '/etc/pass'), /\/etc\/passwd/);
  t.end();
});

test('pins are read from the scripts that fetch', (t) => {
  const { version, sha512 } = nodePins(readFileSync('scripts/bootstrap', 'utf8'));
  t.match(version, /^24\.\d+\.\d+$/);
  t.equal(Buffer.from(sha512.amd64, 'base64').length, 64);
  t.equal(Buffer.from(sha512.arm64, 'base64').length, 64);
  t.not(sha512.amd64, sha512.arm64);
  t.match(envoyVersion(readFileSync('scripts/fetch-envoy', 'utf8')), /^\d+\.\d+\.\d+$/);
  t.throws(() => nodePins('nothing'), /does not pin Node/);
  t.throws(() => envoyVersion('nothing'), /does not pin/);
  t.end();
});

// The guide of README.md, "A mesh of your own on real hosts", followed line by line on two booted machines. The words are the readers'; only what
// they stand for is put in: the address of the controller, where the repository is, and what an editor would write.
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import tap from 'tap';
import { createWorld, eventually, type Machine } from '../../scripts/lib/package/machine.ts';
import { makeShare } from './mesh.ts';
import { explained, get, sampleUnit } from './small-mesh.ts';

tap.setTimeout(300_000);

const ROOT = join(import.meta.dirname, '../..');
const EXAMPLES = ['workloads.yaml', 'reviews.yaml'];
/** The address that the guide's controller has. */
const CONTROLLER = '10.0.0.9';
const APT = 'apt() { DEBIAN_FRONTEND=noninteractive apt-get -y -qq "$@" </dev/null; }';

/** The lines of the first block of code after a heading. */
function block(file: string, heading: string): string[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  const found = text.slice(text.indexOf(`\n${heading}\n`)).split('```')[1] ?? '';
  return found.split('\n').filter((line) => line.trim() !== '');
}

/** `editor FILE   # KEY: VALUE; KEY: VALUE` as a command: each line of the file that begins with the key becomes this. */
function edit(line: string): string {
  const [, file, keys = ''] = /^editor (\S+) +# (.*)$/.exec(line) ?? [];
  const changes = keys.split('; ').map((change) => `-e 's|^${change.split(':')[0]}: .*|${change}|'`);
  return `sed -i ${changes.join(' ')} ${file}`;
}

/** Runs lines on a machine as root would in one shell: what was exported stays. */
function shell(machine: Machine, address: string) {
  const kept: string[] = ['cd /root', APT];
  return async (line: string) => {
    const text = line.replaceAll(CONTROLLER, address).replaceAll('https://REPOSITORY', 'file:///srv/share');
    await machine.must([...kept, text.startsWith('editor ') ? edit(text) : text].join('\n'));
    if (text.startsWith('export ')) kept.push(text);
  };
}

tap.test('the guide of README.md', async (t) => {
  const world = await createWorld('guide', makeShare('guide'));
  t.teardown(() => world.down());
  const [controller, host] = await Promise.all([world.boot('c', 9), world.boot('web-2', 2)]);
  const on = new Map<string, ReturnType<typeof shell>>();
  for (const [name, machine] of [
    ['the controller', controller],
    ['web-2', host],
  ] as const) {
    on.set(name, shell(machine, controller.address));
    await machine.must('cp /srv/share/hostmesh.gpg /root/');
    const repository = block('docs/packages.md', '## A controller').slice(0, 2);
    for (const line of [...repository, 'apt update']) await on.get(name)!(line);
  }
  for (const file of EXAMPLES) copyFileSync(join(ROOT, 'docs/examples', file), join(controller.root, 'root', file));
  await host.must('useradd --system reviews');

  await explained(t, [controller, host], async () => {
    let run = on.get('the controller')!;
    let ran = 0;
    for (const line of block('README.md', '## A mesh of your own on real hosts')) {
      const place = /^# on (.*)$/.exec(line)?.[1];
      if (place !== undefined) {
        run = on.get(place)!;
        continue;
      }
      if (/join </.test(line))
        host.write('/root/join-string', readFileSync(join(controller.root, 'root/join-string'), 'utf8'), 0o600);
      await run(line);
      ran += 1;
    }
    t.ok(ran >= 12, `${ran} lines, each with success`);

    host.write('/etc/systemd/system/reviews.service', sampleUnit('reviews', 'reviews', 9080));
    await host.must('systemctl start reviews');
    const reply = await eventually('the mesh serves', 20_000, async () => {
      const { status, reply } = await get(host, 'reviews', 'http://reviews:9080/');
      return status === 200 && reply;
    });
    t.match(reply.headers['x-forwarded-client-cert'], /URI=spiffe:\/\/mesh\.example\/ns\/default\/sa\/reviews/);
  });
});

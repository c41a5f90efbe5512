// The link for systemd-resolved, over a pretended ip, systemctl and resolvectl.
import t from 'tap';
import type { Exec } from '../../../../agent/host/exec.ts';
import { readResolved, resolvedStands, resolverOf, setResolved } from '../../../../agent/redirect/resolved.ts';
import { buildSpec } from '../../../builders/redirect-spec.ts';

const RESOLVER = {
  port: 15053,
  search: ['default.svc.cluster.local'],
  route: ['svc.cluster.local', 'api.example.com'],
};

/** A host: `fails` names a command that does not work. */
function host(start: { active: boolean; link?: string; dummy?: boolean; fails?: string; pid?: number }) {
  const state = { link: start.link, dns: '', domains: '' };
  const ran: string[] = [];
  const ok = (stdout = '') => ({ code: 0, stdout, stderr: '' });
  const failed = (stderr: string) => ({ code: 1, stdout: '', stderr });
  const exec: Exec = async (file, args) => {
    const line = [file, ...args].join(' ');
    ran.push(line);
    if (start.fails !== undefined && line.startsWith(start.fails)) return failed('Connection timed out\nmore');
    if (file === 'systemctl')
      return ok(
        start.active
          ? `MainPID=${start.pid ?? process.pid}\nActiveState=active\n`
          : 'MainPID=0\nActiveState=inactive\n',
      );
    if (/ link show /.test(line))
      return state.link === undefined ? failed('does not exist') : ok(`7: hostmesh: <UP> alias ${state.link}`);
    if (/ link add .* dummy$/.test(line) && start.dummy === false) return failed('Unknown device type.');
    if (/ link add /.test(line)) state.link = '';
    if (/ alias /.test(line)) state.link = args.at(-1);
    if (/ link delete /.test(line)) Object.assign(state, { link: undefined, dns: '', domains: '' });
    if (file === 'resolvectl' && args[0] === 'dns') {
      if (args.length > 2) state.dns = args.slice(2).join(' ');
      return ok(`Link 7 (hostmesh): ${state.dns}\n`);
    }
    if (file === 'resolvectl' && args[0] === 'domain') {
      if (args.length > 2) state.domains = args.slice(2).join(' ');
      return ok(`Link 7 (hostmesh): ${state.domains}\n`);
    }
    return ok();
  };
  return { exec, ran, state };
}

t.test('where resolved answers it is told once; again is no change; nothing wanted takes all away', async (t) => {
  for (const dummy of [true, false]) {
    const { exec, state, ran } = host({ active: true, dummy });
    const before = await readResolved(exec);
    t.notOk(resolvedStands(before, RESOLVER));
    t.strictSame((await setResolved(exec, before, RESOLVER)).warnings, []);
    t.strictSame(state, {
      link: 'Hostmesh DNS',
      dns: '127.0.0.1:15053',
      domains: 'default.svc.cluster.local ~svc.cluster.local ~api.example.com',
    });
    t.ok(ran.includes('resolvectl default-route hostmesh no'), 'it takes no other name');
    const now = await readResolved(exec);
    t.ok(resolvedStands(now, RESOLVER));
    t.strictSame(await setResolved(exec, now, RESOLVER), { done: [], warnings: [] });
    t.notOk(resolvedStands(now, { ...RESOLVER, route: ['svc.cluster.local'] }), 'another list of names is a change');
    t.equal((await setResolved(exec, now, undefined)).done.length, 1);
    t.equal(state.link, undefined);
  }
});

t.test('without resolved, or with one of another network namespace, nothing is made', async (t) => {
  for (const start of [{ active: false }, { active: true, pid: 999_999_999 }]) {
    const { exec, ran } = host(start);
    t.strictSame(await setResolved(exec, await readResolved(exec), RESOLVER), { done: [], warnings: [] });
    t.notOk(ran.some((line) => / (add|set|delete) /.test(line)));
  }
  const { exec, state } = host({ active: false, link: 'Hostmesh DNS' });
  await setResolved(exec, await readResolved(exec), RESOLVER);
  t.equal(state.link, undefined, 'what a stopped resolved leaves behind goes');
});

t.test('a link of that name that is not ours is not touched', async (t) => {
  const { exec, ran } = host({ active: true, link: 'somebody' });
  const now = await readResolved(exec);
  t.match((await setResolved(exec, now, RESOLVER)).warnings, [/hostmesh is there that is not ours/]);
  await setResolved(exec, now, undefined);
  t.notOk(ran.some((line) => / (add|set|delete) /.test(line) || /^resolvectl/.test(line)));
});

t.test('a resolved that cannot be told: the link goes again, the reason and the cure are said', async (t) => {
  const { exec, state } = host({ active: true, fails: 'resolvectl domain hostmesh d' });
  const { done, warnings } = await setResolved(exec, await readResolved(exec), RESOLVER);
  t.strictSame(done, []);
  t.match(warnings, [/resolvectl domain hostmesh: Connection timed out; restart systemd-resolved/]);
  t.equal(state.link, undefined);
});

t.test('nothing is wanted where DNS is not captured', async (t) => {
  t.strictSame(resolverOf(buildSpec({ resolver: RESOLVER })), RESOLVER);
  t.equal(resolverOf(buildSpec({ resolver: RESOLVER, dns: false })), undefined);
  t.equal(resolverOf(buildSpec({ resolver: RESOLVER, workloads: [] })), undefined);
});

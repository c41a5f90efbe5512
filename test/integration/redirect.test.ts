import { spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import t, { type Test } from 'tap';
import type { Exec } from '../../agent/host/exec.ts';
import { type ApplyDeps, applyRedirect, cleanRedirect } from '../../agent/redirect/apply.ts';
import { permit } from '../../agent/redirect/policy.ts';
import { renderRules } from '../../agent/redirect/rules.ts';
import type { RedirectSpec } from '../../agent/redirect/spec.ts';
import { ownedText, readTable, TABLES } from '../../agent/redirect/tables.ts';
import { buildPolicy, buildSpec, UID } from '../builders/redirect-spec.ts';
import { until } from '../fakes/until.ts';
import { join, openSpace, type Space, standInProxy } from './redirect-lab.ts';

t.setTimeout(580_000);

const FOREIGN = [
  ['iptables', '-t', 'nat', '-N', 'DOCKER'],
  [
    'iptables',
    '-t',
    'nat',
    '-A',
    'OUTPUT',
    '!',
    '-d',
    '127.0.0.0/8',
    '-m',
    'addrtype',
    '--dst-type',
    'LOCAL',
    '-j',
    'DOCKER',
  ],
  ['iptables', '-t', 'nat', '-A', 'POSTROUTING', '-s', '172.17.0.0/16', '-j', 'MASQUERADE'],
  [
    'iptables',
    '-A',
    'INPUT',
    '-p',
    'tcp',
    '--dport',
    '2222',
    '-m',
    'comment',
    '--comment',
    'go -j MESH_OUTPUT here',
    '-j',
    'ACCEPT',
  ],
  ['ip6tables', '-A', 'OUTPUT', '-o', 'lo', '-j', 'ACCEPT'],
  ['iptables', '-P', 'FORWARD', 'DROP'],
];
const spec = permit(buildSpec(), buildPolicy());
const options = { agentUid: UID.agent, revertAfterMs: 0 };

for (const backend of ['nft', 'legacy'] as const) {
  t.test(`${backend}: who is captured, who is refused`, async (t) => {
    const { host, deps } = await openHost(t, 'who', backend);
    const peer = openSpace('peer', backend);
    t.teardown(() => peer.close());
    join(host, peer);
    for (const at of ['10.9.0.2', 'fd09::2'])
      for (const port of [80, 22, 53, 15300]) await peer.listen(UID.stranger, at, port, 'PEER');
    await host.listen(UID.web, '0.0.0.0', 8080, 'WEB');
    await host.listen(UID.web, '::', 8080, 'WEB');
    await host.listen(UID.news, '0.0.0.0', 9090, 'NEWS');
    await host.listen(UID.web, '127.0.0.1', 5555, 'LOCAL');
    await host.listen(UID.stranger, '0.0.0.0', 7777, 'OTHER');
    peer.run('ip', 'addr', 'add', '169.254.169.254/32', 'dev', 'eth0');
    host.run('ip', 'route', 'add', '169.254.169.254/32', 'dev', 'eth0');
    await peer.listen(UID.stranger, '169.254.169.254', 80, 'META');
    await applyRedirect(deps, spec, options);
    const table: [who: number, host: string, port: number, answer: string][] = [
      [UID.web, '10.9.0.2', 80, 'P15001'],
      [UID.news, '10.9.0.2', 80, 'P15100'],
      [UID.web, 'fd09::2', 80, 'P15001'],
      [UID.news, 'fd09::2', 80, 'P15100'],
      [UID.stranger, '10.9.0.2', 80, 'PEER'],
      [UID.stranger, 'fd09::2', 80, 'PEER'],
      [UID.proxy, '10.9.0.2', 80, 'PEER'],
      [UID.agent, '10.9.0.2', 80, 'PEER'],
      [0, '10.9.0.2', 80, 'PEER'],
      [UID.web, '240.240.3.4', 80, 'P15001'], // VIPs: no default route here
      [UID.web, 'fd6d:6573:6800::9', 80, 'P15001'],
      [UID.news, '240.240.3.4', 5432, 'P15100'],
      [UID.web, '10.9.0.2', 22, 'PEER'], // ssh and gossip: never
      [UID.web, 'fd09::2', 22, 'PEER'],
      [UID.web, '10.9.0.2', 15300, 'PEER'],
      [UID.web, '169.254.169.254', 80, 'META'], // the cloud's metadata
      [UID.stranger, '169.254.169.254', 80, 'META'],
      [UID.proxy, '169.254.169.254', 80, 'ECONNREFUSED'], // guard c: no name that an operator wrote leads the proxy there
      [UID.web, '127.0.0.1', 5555, 'LOCAL'], // loopback destinations
      [UID.web, '10.9.0.2', 53, 'DNS15053'], // DNS by tcp
      [UID.news, 'fd09::2', 53, 'DNS15054'],
      [UID.stranger, '10.9.0.2', 53, 'PEER'],
      [UID.web, '10.9.0.1', 8080, 'P15001'], // same host: a workload's own call goes out by its proxy
      [UID.news, '10.9.0.1', 8080, 'P15100'],
      [UID.proxy, '10.9.0.1', 8080, 'P15006'], // and the proxy's call comes in by 15006
      [UID.proxy, 'fd09::1', 8080, 'P15006'],
      [UID.proxy, '127.0.0.1', 8080, 'ECONNREFUSED'], // guard c: no endpoint leads the proxy to loopback
      [UID.proxy, '::1', 8080, 'ECONNREFUSED'],
      [UID.proxy, '127.0.0.1', 5555, 'ECONNREFUSED'],
      [UID.stranger, '10.9.0.1', 8080, 'ECONNREFUSED'], // guard b
      [UID.stranger, '127.0.0.1', 8080, 'ECONNREFUSED'],
      [UID.stranger, '::1', 8080, 'ECONNREFUSED'],
      [UID.news, '127.0.0.1', 8080, 'ECONNREFUSED'],
      [UID.stranger, '127.0.0.1', 9090, 'NEWS'], // PERMISSIVE
      [UID.web, '127.0.0.1', 8080, 'WEB'],
      [0, '127.0.0.1', 8080, 'WEB'],
      [UID.friend, '127.0.0.1', 8080, 'WEB'], // loopbackAllow
      [UID.stranger, '127.0.0.1', 15001, 'ECONNREFUSED'], // guard a
      [UID.stranger, '10.9.0.1', 15100, 'ECONNREFUSED'],
      [UID.news, '127.0.0.1', 15001, 'ECONNREFUSED'],
      [UID.web, '::1', 15100, 'ECONNREFUSED'],
      [UID.stranger, '::1', 15006, 'ECONNREFUSED'],
      [UID.stranger, '10.9.0.1', 15006, 'ECONNREFUSED'],
      [UID.stranger, '10.9.0.1', 7777, 'OTHER'],
    ];
    for (const [who, to, port, wanted] of table) {
      const answer = await host.connect(who, to, port);
      t.equal(answer.split(' ')[0], wanted, `uid ${who} to ${to} port ${port}`);
    }
    for (const [to, port, wanted] of [
      ['10.9.0.1', 8080, 'P15006'],
      ['fd09::1', 8080, 'P15006'],
      ['10.9.0.1', 9090, 'P15006'],
      ['10.9.0.1', 15001, 'ECONNREFUSED'],
      ['10.9.0.1', 15006, 'ECONNREFUSED'],
      ['fd09::1', 15006, 'ECONNREFUSED'],
      ['10.9.0.1', 7777, 'OTHER'],
    ] as const)
      t.equal((await peer.connect(0, to, port)).split(' ')[0], wanted, `from another host to ${to} port ${port}`);
    for (const to of ['127.0.0.6', '::6']) {
      const [app, port] = to === '::6' ? ['fd09::1', 8080] : ['10.9.0.1', 8080];
      t.equal(
        (await host.connect(UID.proxy, app, port, to)).split(' ')[0],
        'WEB',
        `the proxy's inbound leg from ${to} reaches the application`,
      );
      t.equal(
        (await host.connect(UID.news, app, port, to)).split(' ')[0],
        'P15100',
        `a workload that binds ${to} is captured all the same`,
      );
    }
    for (const server of ['10.9.0.2', 'fd09::2', '127.0.0.1'])
      t.equal(await host.askUdp(UID.web, server, 53), 'DNS15053', `DNS by udp to ${server}`);
  });

  t.test(
    `${backend}: rules are as rendered; the same again changes nothing; clean-up leaves what was there`,
    async (t) => {
      const { host, deps } = await openHost(t, 'same', backend);
      const fresh = host.snapshot();
      for (const foreign of [false, true]) {
        if (foreign)
          for (const [program = '', ...args] of FOREIGN)
            host.run(program.replace('tables', `tables-${backend}`), ...args);
        const before = host.snapshot();
        t.equal((await applyRedirect(deps, spec, options)).changed, true);
        for (const family of ['v4', 'v6'] as const)
          for (const name of TABLES) {
            const save = host.run(`${family === 'v4' ? 'iptables' : 'ip6tables'}-${backend}-save`);
            t.equal(
              ownedText(readTable(save, name)),
              ownedText(renderRules(spec, family).get(name)!),
              `${family} ${name}`,
            );
          }
        const after = host.snapshot();
        if (foreign)
          for (const line of before.split('\n').filter((l) => l.startsWith('-A')))
            t.match(after, line, 'foreign rule stays');
        t.equal((await applyRedirect(deps, spec, options)).changed, false, 'unchanged input');
        t.equal(host.snapshot(), after);
        const other = permit(buildSpec({ dns: false, workloads: [], inboundPorts: [] }), buildPolicy());
        t.equal((await applyRedirect(deps, other, options)).changed, true, 'a smaller spec');
        t.notMatch(host.snapshot(), /MESH_PREROUTING|(?:udp|tcp) --dport 53 /);
        t.equal((await cleanRedirect(deps)).changed, true);
        t.equal((await cleanRedirect(deps)).changed, false, 'clean-up is idempotent');
        // Legacy: a built-in table that was never there cannot be taken away again (DESIGN 4).
        if (backend === 'nft' || foreign) t.equal(sortTables(host.snapshot()), sortTables(before), 'byte for byte');
        else t.notMatch(host.snapshot(), /^-A|MESH_/m);
        t.notMatch(host.run('ip', '-6', 'addr', 'show', 'dev', 'lo'), '::6');
        t.equal(host.run('ip', 'route', 'show', 'dev', 'lo'), '');
      }
      if (backend === 'nft') t.equal(fresh.trim(), '', 'the host had no table at all');
    },
  );

  t.test(`${backend}: a step that fails puts back what stood before`, async (t) => {
    const { host, deps } = await openHost(t, 'fail', backend);
    const empty = host.snapshot();
    const breaking = (where: 'v6' | 'v4 nat'): Exec => {
      return (file, args, o) => {
        const restore = file.endsWith('-restore') && o?.input?.includes(where === 'v6' ? '::6/128' : '127.0.0.6/32');
        const input = restore ? o!.input!.replace(/COMMIT\n$/, '-A NO_SUCH_CHAIN -j RETURN\nCOMMIT\n') : o?.input;
        return host.exec(file, args, { ...o, input });
      };
    };
    for (const where of ['v6', 'v4 nat'] as const) {
      await t.rejects(applyRedirect({ ...deps, exec: breaking(where) }, spec, options), { code: 'REDIRECT_FAILED' });
      if (backend === 'nft') t.equal(host.snapshot(), empty, `first time, ${where}: nothing is left`);
      else t.notMatch(host.snapshot(), /^-A|MESH_/m);
      t.equal(host.run('ip', 'route', 'show', 'dev', 'lo'), '');
    }
    await applyRedirect(deps, spec, options);
    const standing = host.snapshot();
    const other = permit(
      buildSpec({ inboundPorts: [{ port: 81, permissive: false, ownerUids: [UID.web] }], excludePorts: [99] }),
      buildPolicy(),
    );
    for (const where of ['v6', 'v4 nat'] as const) {
      await t.rejects(applyRedirect({ ...deps, exec: breaking(where) }, other, options), { code: 'REDIRECT_FAILED' });
      t.equal(host.snapshot(), standing, `later, ${where}: the old rules stand`);
    }
  });
}

t.test('refused before anything is touched: listeners of others, or none', async (t) => {
  const { host, deps } = await openHost(t, 'refuse', 'nft');
  const before = host.snapshot();
  for (const [port, uid, message] of [
    [15001, UID.stranger, /port 15001 is held by uid 10, not by the proxy/],
    [15006, UID.web, /port 15006 is held by uid 33/],
    [15053, UID.stranger, /port 15053 is held by uid 10, not by mesh-agent-dns/],
  ] as const) {
    await host.closePort(port);
    await t.rejects(applyRedirect(deps, spec, options), {
      code: 'REDIRECT_LISTENER',
      message: /nothing listens on port/,
    });
    await host.listen(uid, '127.0.0.1', port, 'SQUATTER');
    await t.rejects(applyRedirect(deps, spec, options), { code: 'REDIRECT_LISTENER', message });
    await host.closePort(port);
    await standInProxy(host, [port]);
  }
  t.equal(host.snapshot(), before);
});

t.test("another service's port is left alone, and said", async (t) => {
  const { host, deps } = await openHost(t, 'other', 'nft');
  await host.listen(UID.stranger, '127.0.0.1', 8080, 'DATABASE');
  const outcome = await applyRedirect(deps, spec, options);
  t.match(outcome.uncaptured, [{ port: 8080, uid: UID.stranger }]);
  t.match(await host.connect(UID.friend, '127.0.0.1', 8080), /^DATABASE/);
  await host.closePort(8080);
  t.match(await applyRedirect(deps, spec, options), { changed: true, uncaptured: [] });
  t.match(host.snapshot(), 'dport 8080');
});

t.test('a client with one lasting UDP socket is captured at once and let go at once', async (t) => {
  const { host, deps } = await openHost(t, 'udp', 'nft');
  const peer = openSpace('udp-peer');
  t.teardown(() => peer.close());
  join(host, peer);
  await peer.listenUdp(UID.stranger, '10.9.0.2', 53, 'UPSTREAM');
  // conntrack is on before the rules are: a foreign rule uses it
  host.run('iptables-nft', '-A', 'OUTPUT', '-m', 'conntrack', '--ctstate', 'INVALID', '-j', 'DROP');
  t.equal(await host.askUdp(UID.web, '10.9.0.2', 53, true), 'UPSTREAM');
  const { warnings } = await applyRedirect(deps, spec, options);
  t.strictSame(warnings, []);
  t.equal(await host.askUdp(UID.web, '10.9.0.2', 53, true), 'DNS15053');
  t.strictSame((await cleanRedirect(deps)).warnings, []);
  t.equal(await host.askUdp(UID.web, '10.9.0.2', 53, true), 'UPSTREAM');
});

for (const backend of ['nft', 'legacy'] as const) {
  t.test(`${backend}: a query is captured though an uncaptured user had its source port a moment ago`, async (t) => {
    const { host, deps } = await openHost(t, 'zone', backend);
    const peer = openSpace('zone-peer', backend);
    t.teardown(() => peer.close());
    join(host, peer);
    for (const at of ['10.9.0.2', 'fd09::2']) await peer.listenUdp(UID.stranger, at, 53, 'UPSTREAM');
    await applyRedirect(deps, spec, options);
    for (const [i, at] of ['10.9.0.2', 'fd09::2'].entries()) {
      const from = 40_000 + i;
      t.equal(await host.askUdp(UID.agent, at, 53, false, from), 'UPSTREAM', 'the forwarder');
      t.equal(await host.askUdp(UID.web, at, 53, false, from), 'DNS15053', 'a workload, from the same port');
      t.equal(await host.askUdp(UID.news, at, 53, false, from + 10), 'DNS15054');
      t.equal(await host.askUdp(UID.agent, at, 53, false, from + 10), 'UPSTREAM', 'the other way round');
    }
  });
}

t.test('legacy: the lock of another iptables is waited for, then its holder is named', async (t) => {
  const { host, deps } = await openHost(t, 'lock', 'legacy');
  host.run('iptables-legacy', '-L', '-n'); // makes the lock file
  const holder = spawn('flock', ['-o', '/run/xtables.lock', 'sleep', '60'], { stdio: 'ignore' });
  t.teardown(() => holder.kill());
  await until(() => {
    const lock = statSync('/run/xtables.lock').ino;
    return readFileSync('/proc/locks', 'utf8').includes(`:${lock} `);
  }, 'the lock to be held');
  const since = performance.now();
  await t.rejects(applyRedirect(deps, spec, options), {
    code: 'REDIRECT_LOCKED',
    message: /held by (flock|sleep) \(pid \d+\)/,
  });
  t.ok(performance.now() - since > 4000, 'it was waited for');
});

t.test('rules that someone else damaged are mended', async (t) => {
  const { host, deps } = await openHost(t, 'mend', 'nft');
  await applyRedirect(deps, spec, options);
  const whole = host.snapshot();
  for (const damage of [
    ['iptables-nft', '-t', 'nat', '-F', 'OUTPUT'],
    ['ip6tables-nft', '-F', 'MESH_GUARD_OUT'],
    ['iptables-nft', '-t', 'nat', '-D', 'MESH_OUTPUT', '1'],
    ['ip', '-6', 'addr', 'del', '::6/128', 'dev', 'lo'],
    ['ip', 'route', 'del', '240.240.0.0/16', 'dev', 'lo'],
  ]) {
    host.run(...damage);
    t.equal((await applyRedirect(deps, spec, options)).changed, true, damage.join(' '));
    t.equal(host.snapshot(), whole);
  }
  host.run('iptables-nft', '-I', 'OUTPUT', '1', '-o', 'lo', '-j', 'ACCEPT');
  t.equal((await applyRedirect(deps, spec, options)).changed, true, 'an ACCEPT before our guard');
  await host.listen(UID.web, '127.0.0.1', 8080, 'WEB');
  t.equal(await host.connect(UID.stranger, '127.0.0.1', 8080), 'ECONNREFUSED');
});

for (const backend of ['nft', 'legacy'] as const)
  t.test(`${backend}: another program flushes while the rules are written`, async (t) => {
    const { host, deps } = await openHost(t, 'race', backend);
    await applyRedirect(deps, spec, options);
    const whole = host.snapshot();
    for (const [when, flushed] of [
      ['before', 'OUTPUT'],
      ['after', 'MESH_OUTPUT'],
    ] as const) {
      let flushes = 0;
      const exec: Exec = async (file, args, o) => {
        const disturbed = /^iptables.*-restore$/.test(file) && flushes === 0;
        if (disturbed) flushes += 1;
        if (disturbed && when === 'before') host.run(`iptables-${backend}`, '-t', 'nat', '-F', flushed);
        const ran = await host.exec(file, args, o);
        if (disturbed && when === 'after') host.run(`iptables-${backend}`, '-t', 'nat', '-F', flushed);
        return ran;
      };
      host.run(`iptables-${backend}`, '-t', 'nat', '-D', 'MESH_OUTPUT', '1');
      t.equal((await applyRedirect({ ...deps, exec }, spec, options)).changed, true);
      t.equal(flushes, 1);
      t.equal(host.snapshot(), whole, `flushed ${when} the write: written again`);
    }
  });

/** nft lists tables in the order of their making, which a foreign restore does not keep either. */
function sortTables(snapshot: string): string {
  return snapshot
    .split(/\n\n+/)
    .map((part) => part.trim())
    .sort()
    .join('\n');
}

async function openHost(
  t: Test,
  label: string,
  backend: 'nft' | 'legacy',
): Promise<{ host: Space; deps: ApplyDeps; spec: RedirectSpec }> {
  const host = openSpace(label, backend);
  t.teardown(() => host.close());
  await standInProxy(host);
  return {
    host,
    spec,
    deps: {
      exec: host.exec,
      sockets: host.sockets,
      stateDir: `${t.testdir()}/state`,
      now: Date.now,
      procPath: host.procPath,
    },
  };
}

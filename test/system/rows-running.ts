// Rows of the operator's table up to a mesh that serves, and what happens to one: restarts, crashes, other programs, bad config.
import { eventually } from '../../scripts/lib/package/machine.ts';
import { apt, joinHost, journal, NODE, rulesOf, startReviews, waitServing } from './mesh.ts';
import {
  asBefore,
  CLIENT,
  envoyPid,
  isActive,
  MESH_NAME,
  mainPid,
  RATE,
  REVIEWS,
  type Rows,
  ready,
  URL,
  underLoad,
} from './rows.ts';

/** In order, on one mesh. */
export const RUNNING: Rows = [
  [
    'apt install mesh-agent: nothing runs, no rule; start before a join says what to do, once',
    async (t, { mesh: { a }, before }) => {
      before.set('a', await rulesOf(a));
      await a.must(apt('install mesh-agent'));
      t.equal((await a.must("systemctl list-units --no-legend --plain 'mesh*'")).trim(), '', 'no unit is loaded');
      t.equal(await rulesOf(a), before.get('a'), 'no rule');
      t.equal((await a.must('ss -Hltnu')).trim(), '', 'nothing listens');
      t.equal((await a.exec('systemctl is-enabled mesh-agent')).out.trim(), 'disabled');
      t.not((await a.exec('systemctl start mesh-agent')).code, 0, 'start fails');
      const said = (await a.must('journalctl -o cat -u mesh-agent'))
        .split('\n')
        .filter((line) => line.startsWith('mesh-agent:') && !/code=exited|with result/.test(line));
      t.equal(said.length, 1, 'one line');
      t.match(said[0], /^mesh-agent: this host has not joined a mesh; run `mesh-agent join`/);
      t.equal((await a.must('systemctl show -p NRestarts --value mesh-agent')).trim(), '0', 'no restart');
      t.equal(await isActive(a, 'mesh-proxy'), false, 'no proxy');
      t.equal((await a.must('ss -Hltnu')).trim(), '', 'still nothing listens');
    },
  ],
  [
    'join, then enable --now: ready within 5 s, serving by mutual TLS',
    async (t, { mesh, before }) => {
      for (const machine of [mesh.b, mesh.d]) {
        if (machine === mesh.d)
          for (const ip of ['iptables', 'ip6tables'])
            await machine.must(`update-alternatives --set ${ip} /usr/sbin/${ip}-legacy`);
        before.set(machine.name, await rulesOf(machine));
        await joinHost(mesh, machine, REVIEWS);
      }
      await joinHost(mesh, mesh.a, CLIENT);
      for (const machine of [mesh.b, mesh.d, mesh.a]) {
        const begun = performance.now();
        await machine.must('systemctl enable --now mesh-agent');
        const ms = Math.round(performance.now() - begun);
        t.ok(ms < 5000, `${machine.name} was ready after ${ms} ms`);
      }
      for (const machine of [mesh.b, mesh.d]) await startReviews(machine);
      await waitServing(mesh, 2);
      const reply = await mesh.call();
      t.match(reply?.headers['x-forwarded-client-cert'], /URI=spiffe:\/\/mesh\.test\/ns\/default\/sa\/client/);
      t.match(await mesh.d.must('iptables-legacy-save'), /MESH_OUTPUT/, 'd has its rules in the legacy tables');
      const direct = await mesh.controller.exec(`curl -s -m 3 http://${mesh.b.address}:9080/`);
      t.not(direct.code, 0, 'a machine outside the mesh is not served (STRICT)');
    },
  ],
  [
    'the units are closed: systemd-analyze security at most 3.0',
    async (t, { mesh: { a, controller } }) => {
      for (const [machine, unit] of [
        [a, 'mesh-agent'],
        [a, 'mesh-proxy'],
        [controller, 'mesh-controller'],
      ] as const) {
        const said = await machine.must(`systemd-analyze security --no-pager ${unit}.service | tail -1`);
        const score = Number(/: ([\d.]+) /.exec(said)?.[1]);
        t.ok(score > 0 && score <= 3, `${unit}: ${score}`);
      }
    },
  ],
  [
    'systemctl restart mesh-agent under load: nothing lost',
    async (t, { mesh }) => {
      for (const machine of [mesh.a, mesh.b]) {
        const proxy = await envoyPid(machine);
        await underLoad(t, mesh, () => machine.must('systemctl restart mesh-agent'));
        t.equal(await envoyPid(machine), proxy, `${machine.name}: Envoy went on`);
      }
    },
  ],
  [
    'kill -9 of the agent under load: nothing lost, it is back',
    async (t, { mesh }) => {
      for (const machine of [mesh.a, mesh.b]) {
        const before = await mainPid(machine, 'mesh-agent');
        await underLoad(t, mesh, async () => {
          await machine.must(`kill -KILL ${before}`);
          await ready(machine, before);
        });
      }
    },
  ],
  [
    'the watchdog expires under load: nothing lost, it is back',
    async (t, { mesh }) => {
      const before = await mainPid(mesh.a, 'mesh-agent');
      const requests = await mesh.load(URL, RATE);
      await mesh.a.must(`kill -STOP ${before}`);
      // as programs ask, by libc: two tries of 5 s each
      const asked = await Promise.all(
        Array.from({ length: 10 }, () => mesh.a.exec(`getent ahostsv4 ${MESH_NAME}`, { user: 'client' })),
      );
      await ready(mesh.a, before);
      const http = await requests();
      t.strictSame(http.failed.slice(0, 5), [], `no request of ${http.sent} lost`);
      t.ok(
        asked.every(({ code }) => code === 0),
        'each question was answered',
      );
      t.comment(`slowest request, with its look-up: ${http.slowestMs} ms`);
      t.match(await mesh.a.must('journalctl -o cat -u mesh-agent'), /Watchdog timeout/);
    },
  ],
  [
    'another program flushes the tables: ours are back within 5 s, foreign rules are untouched',
    async (t, { mesh }) => {
      for (const machine of [mesh.a, mesh.d]) {
        await machine.must(
          'iptables -t nat -N DOCKER && iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER && iptables -t nat -A DOCKER -p tcp --dport 8999 -j REDIRECT --to-ports 8998',
        );
        const standing = await rulesOf(machine);
        for (const flush of [
          'iptables -F',
          'iptables -t nat -F OUTPUT',
          'iptables -t nat -F MESH_OUTPUT',
          'ip6tables -F MESH_GUARD_IN',
        ]) {
          t.not(await rulesOf(machine, flush), standing, `${machine.name}: ${flush}`);
          const begun = performance.now();
          await eventually(
            `${machine.name}: rules are back after ${flush}`,
            5000,
            async () => (await rulesOf(machine)) === standing,
          );
          t.comment(`${flush}: back after ${Math.round(performance.now() - begun)} ms`);
        }
        t.match(await rulesOf(machine), /-A DOCKER -p tcp -m tcp --dport 8999/);
        await machine.must(
          'iptables -t nat -D PREROUTING -m addrtype --dst-type LOCAL -j DOCKER && iptables -t nat -F DOCKER && iptables -t nat -X DOCKER',
        );
      }
      await mesh.a.must('nft flush ruleset');
      await eventually(
        'a serves again after nft flush ruleset',
        5000,
        async () => (await mesh.call(1))?.headers['x-forwarded-client-cert'] !== undefined,
      );
    },
  ],
  [
    'rules that are new on a host and that the agent does not confirm are taken back',
    async (t, { mesh: { a }, mesh, before }) => {
      await a.must('systemctl stop mesh-agent');
      await asBefore(t, a, before.get('a')!);
      const dropIn = '/run/systemd/system/mesh-redirect-apply.service.d';
      const apply = '/usr/lib/mesh/node /usr/lib/mesh/mesh-agent.mjs redirect apply --revert-after 3';
      await a.must(
        `mkdir -p ${dropIn} && printf '[Service]\\nExecStart=\\nExecStart=${apply}\\n' > ${dropIn}/test.conf`,
      );
      // the agent cannot write its confirmation over a folder
      await a.must('rm -f /run/mesh/redirect/confirm.json && mkdir -p /run/mesh/redirect/confirm.json/x');
      await a.must('systemctl daemon-reload && systemctl start --no-block mesh-agent');
      await eventually('the rules stand', 10_000, async () => /MESH_/.test(await rulesOf(a)));
      await eventually('the rules are gone', 10_000, async () => !/MESH_/.test(await rulesOf(a)));
      await a.must(
        `rm -r /run/mesh/redirect/confirm.json ${dropIn} && systemctl daemon-reload && systemctl restart mesh-agent`,
      );
      await waitServing(mesh, 2);
    },
  ],
  [
    'ssh is never captured: port 22 of another host is reached directly',
    async (t, { mesh }) => {
      const server = mesh.b.start(`exec ${NODE} --no-warnings /srv/share/sample-service.ts ssh http=22`);
      try {
        const reply = await eventually('port 22 answers', 10_000, async () => {
          const ran = await mesh.a.exec(`curl -sf -m 2 http://${mesh.b.address}:22/`, { user: 'client' });
          return ran.code === 0 && (JSON.parse(ran.out) as { remote: string; headers: Record<string, string> });
        });
        t.match(reply.remote, mesh.a.address, 'the caller itself, no proxy');
        t.notOk(reply.headers['x-forwarded-client-cert']);
      } finally {
        server.kill('SIGKILL');
        await mesh.b.exec("kill $(ss -Hltnp 'sport = :22' | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u)");
      }
    },
  ],
  [
    'reload: a bad agent.yaml is refused and the running config stays',
    async (t, { mesh: { a }, mesh }) => {
      const pid = await mainPid(a, 'mesh-agent');
      await a.must(
        "cp -p /etc/mesh/agent.yaml /root/good && echo 'no-such-key: 1' >> /etc/mesh/agent.yaml && systemctl reload mesh-agent",
      );
      await eventually('it says so', 5000, async () => /no-such-key/.test(await journal(a, 'mesh-agent')));
      t.equal(await mainPid(a, 'mesh-agent'), pid);
      t.ok(await mesh.call(), 'still serving');
      const checked = await a.exec('mesh-agent --check-config');
      t.equal(checked.code, 78);
      t.match(checked.err, /agent\.yaml:\d+:1: .*no-such-key/);
      await a.must('mv /root/good /etc/mesh/agent.yaml && systemctl reload mesh-agent && mesh-agent check-config');
    },
  ],
  [
    'DNS: other names always, mesh names by UDP and TCP; when the agent failed for good other names resolve',
    async (t, { mesh: { a }, mesh }) => {
      const ask = (name: string, options = '') =>
        a.exec(`env RES_OPTIONS='${options}' getent ahostsv4 ${name}`, { user: 'client' });
      for (const options of ['', 'use-vc']) {
        t.match((await ask(MESH_NAME, options)).out, /^240\.240\./, `${options} mesh name`);
        t.match((await ask('outside.example', options)).out, /^10\.213\.0\.254/, `${options} other name`);
      }
      await a.must(
        'mv /usr/lib/mesh/mesh-agent.mjs /usr/lib/mesh/aside.mjs && echo "process.exit(1)" > /usr/lib/mesh/mesh-agent.mjs',
      );
      // the root oneshots are the same program: they need a good one
      await a.must(
        "mkdir -p /run/systemd/system/mesh-dns-off.service.d && printf '[Service]\\nExecStart=\\nExecStart=/usr/lib/mesh/node /usr/lib/mesh/aside.mjs redirect dns-off --config /etc/mesh/agent.yaml\\n' > /run/systemd/system/mesh-dns-off.service.d/test.conf && systemctl daemon-reload",
      );
      await a.must('kill -KILL $(systemctl show -p MainPID --value mesh-agent)');
      await eventually(
        'the agent has failed for good',
        20_000,
        async () => (await a.exec('systemctl is-failed mesh-agent')).out.trim() === 'failed',
      );
      await eventually('other names resolve', 10_000, async () => (await ask('outside.example')).code === 0);
      t.ok(await mesh.call().then((reply) => reply === undefined), 'mesh names do not');
      await a.must(
        'mv /usr/lib/mesh/aside.mjs /usr/lib/mesh/mesh-agent.mjs && rm -r /run/systemd/system/mesh-dns-off.service.d && systemctl daemon-reload && systemctl reset-failed "mesh*" && systemctl start mesh-agent',
      );
      await waitServing(mesh, 2);
      t.match((await ask(MESH_NAME)).out, /^240\.240\./, 'mesh names are back');
    },
  ],
  [
    'an agent that has failed: Envoy and the rules stay; systemctl stop takes all away all the same',
    async (t, { mesh: { a }, mesh, before }) => {
      await a.must("cp -p /etc/mesh/agent.yaml /root/good && echo 'no-such-key: 1' >> /etc/mesh/agent.yaml");
      await a.must('kill -KILL $(systemctl show -p MainPID --value mesh-agent)');
      await eventually(
        'it has failed',
        10_000,
        async () => (await a.exec('systemctl is-failed mesh-agent')).out.trim() === 'failed',
      );
      t.match(await rulesOf(a), /MESH_OUTPUT/, 'fail static: the rules stand');
      t.ok(await isActive(a, 'mesh-proxy'), 'and Envoy serves');
      await a.must('mv /root/good /etc/mesh/agent.yaml && systemctl stop mesh-agent');
      await asBefore(t, a, before.get('a')!);
      await a.must('systemctl start mesh-agent');
      await waitServing(mesh, 2);
    },
  ],
];

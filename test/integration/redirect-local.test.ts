/** Needs root. Ports that a workload and its proxy speak over on loopback, by a Sidecar: who may connect and who may answer. */
import t from 'tap';
import { applyRedirect, cleanRedirect } from '../../agent/redirect/apply.ts';
import { permit } from '../../agent/redirect/policy.ts';
import type { LocalPort } from '../../agent/redirect/spec.ts';
import { buildPolicy, buildSpec, UID } from '../builders/redirect-spec.ts';
import { openSpace, standInProxy } from './redirect-lab.ts';

t.setTimeout(580_000);

const application = { kind: 'application', port: 8081, permissive: false, ownerUids: [UID.web] } as const;
const LOCAL: readonly LocalPort[] = [
  application,
  { ...application, port: 8082 },
  { kind: 'proxy', port: 3306, address: '127.0.0.1', permissive: false, ownerUids: [UID.web] },
  { kind: 'proxy', port: 3306, address: '::1', permissive: false, ownerUids: [UID.web] },
];

for (const backend of ['nft', 'legacy'] as const) {
  t.test(`${backend}: loopback ports of a Sidecar`, async (t) => {
    const host = openSpace('local', backend);
    t.teardown(() => host.close());
    await standInProxy(host);
    host.run('ip', '-6', 'addr', 'add', '::6/128', 'dev', 'lo', 'preferred_lft', '0');
    const before = host.snapshot();
    const { exec, sockets, procPath } = host;
    const deps = { exec, sockets, procPath, stateDir: `${t.testdir()}/state`, now: Date.now };
    await host.listen(UID.web, '0.0.0.0', 8080, 'WEB');
    for (const address of ['127.0.0.1', '::1']) {
      await host.listen(UID.web, address, 8081, 'APP');
      await host.listen(UID.proxy, address, 3306, 'EGRESS');
      await host.listen(UID.web, address, 7777, 'OTHER');
    }
    const spec = permit(buildSpec({ localPorts: LOCAL }), buildPolicy());
    const apply = () => applyRedirect(deps, spec, { agentUid: UID.agent, revertAfterMs: 0 });
    await apply();
    const table: [who: number, host: string, port: number, answer: string, from?: string][] = [
      [UID.proxy, '127.0.0.1', 8081, 'APP', '127.0.0.6'],
      [UID.proxy, '::1', 8081, 'APP', '::6'],
      [UID.proxy, '127.0.0.1', 8081, 'ECONNREFUSED'],
      [UID.proxy, '127.0.0.1', 7777, 'ECONNREFUSED', '127.0.0.6'],
      [UID.web, '127.0.0.1', 8081, 'APP'],
      [UID.stranger, '127.0.0.1', 8081, 'ECONNREFUSED'],
      [UID.stranger, '::1', 8081, 'ECONNREFUSED'],
      [UID.web, '127.0.0.1', 3306, 'EGRESS'],
      [UID.web, '::1', 3306, 'EGRESS'],
      [0, '127.0.0.1', 3306, 'EGRESS'],
      [UID.news, '127.0.0.1', 3306, 'ECONNREFUSED'],
      [UID.stranger, '127.0.0.1', 3306, 'ECONNREFUSED'],
      [UID.friend, '::1', 3306, 'ECONNREFUSED'],
    ];
    for (const [who, where, port, answer, from] of table)
      t.equal(
        (await host.connect(who, where, port, from)).split(' ')[0],
        answer,
        `${who} to ${where} ${port} from ${from}`,
      );
    // Somebody else takes the ports: the application's is not led to, the proxy's is not answered for.
    await host.listen(UID.stranger, '127.0.0.1', 8082, 'STRANGER');
    await host.closePort(3306);
    await host.listen(UID.stranger, '127.0.0.1', 3306, 'SQUAT');
    t.equal((await host.connect(UID.proxy, '127.0.0.1', 8082, '127.0.0.6')).split(' ')[0], 'TIMEOUT');
    t.equal((await host.connect(UID.web, '127.0.0.1', 3306)).split(' ')[0], 'TIMEOUT');
    // A service that was there first is left alone.
    const result = await apply();
    t.match(
      result.uncaptured.map(({ port, uid }) => [port, uid]),
      [
        [8082, UID.stranger],
        [3306, UID.stranger],
      ],
    );
    t.equal((await host.connect(UID.stranger, '127.0.0.1', 3306)).split(' ')[0], 'SQUAT');
    t.equal((await host.connect(UID.proxy, '127.0.0.1', 8082, '127.0.0.6')).split(' ')[0], 'ECONNREFUSED');
    await cleanRedirect(deps);
    if (backend === 'nft') t.equal(host.snapshot(), before, 'nothing is left');
  });
}

/** Needs root. A local user on the ports that redirects lead to: above 1023, so anybody may bind them while the proxy is dead. */
import t from 'tap';
import { applyRedirect } from '../../agent/redirect/apply.ts';
import { permit } from '../../agent/redirect/policy.ts';
import { buildPolicy, buildSpec, UID } from '../builders/redirect-spec.ts';
import { join, openSpace, standInProxy } from './redirect-lab.ts';

t.setTimeout(580_000);

for (const backend of ['nft', 'legacy'] as const) {
  t.test(`${backend}: who takes the proxy's ports while it is dead is told nothing`, async (t) => {
    const host = openSpace('squat', backend);
    t.teardown(() => host.close());
    await standInProxy(host);
    const { exec, sockets, procPath } = host;
    const deps = { exec, sockets, procPath, stateDir: `${t.testdir()}/state`, now: Date.now };
    const peer = openSpace('squat-peer', backend);
    t.teardown(() => peer.close());
    join(host, peer);
    await host.listen(UID.web, '0.0.0.0', 8080, 'WEB');
    await applyRedirect(deps, permit(buildSpec(), buildPolicy()), { agentUid: UID.agent, revertAfterMs: 0 });
    t.equal((await host.connect(UID.web, '10.9.0.2', 80)).split(' ')[0], 'P15001');
    for (const port of [15001, 15006]) {
      await host.closePort(port);
      for (const address of ['0.0.0.0', '::']) await host.listen(UID.stranger, address, port, 'SQUAT');
    }
    for (const [away, here] of [
      ['10.9.0.2', '10.9.0.1'],
      ['fd09::2', 'fd09::1'],
    ] as const) {
      const answers = await Promise.all([host.connect(UID.web, away, 80), peer.connect(0, here, 8080)]);
      t.same(answers, ['TIMEOUT', 'TIMEOUT'], `a workload to ${away}, another host to ${here}`);
    }
    for (const port of [15001, 15006]) await host.closePort(port);
    await standInProxy(host, [15001, 15006]);
    t.equal((await host.connect(UID.web, '10.9.0.2', 80)).split(' ')[0], 'P15001', 'served again');
    t.equal((await peer.connect(0, '10.9.0.1', 8080)).split(' ')[0], 'P15006');
  });
}

import t from 'tap';
import type { Listener, Sockets } from '../../../../agent/host/sockets.ts';
import { judgeInbound } from '../../../../agent/redirect/listeners.ts';
import { renderRules } from '../../../../agent/redirect/rules.ts';
import type { RedirectSpec } from '../../../../agent/redirect/spec.ts';

const WORKLOAD = 1001;
const STRANGER = 1002;
const SPEC: RedirectSpec = {
  version: 1,
  requestId: 'r1',
  families: ['v4', 'v6'],
  proxyUid: 900,
  inboundPort: 15006,
  inboundPorts: [{ port: 9080, permissive: false, ownerUids: [WORKLOAD] }],
  workloads: [],
  dns: false,
  vipRanges: [],
  excludeCidrs: [],
  excludePorts: [],
  loopbackAllowUids: [],
};

t.test("a local user's socket on ::1 leaves the workload's port captured and guarded", async (t) => {
  const sockets = fakeSockets([socket('0.0.0.0', WORKLOAD), socket('::1', STRANGER)]);
  const { captured, uncaptured } = await judgeInbound(sockets, SPEC);
  const filter = [...(renderRules(captured, 'v4').get('filter')?.chains.values() ?? [])].flat();
  t.match(filter.join('\n'), /-o lo -p tcp -m tcp --dport 9080 -j REJECT/, 'guarded');
  const nat = [...(renderRules(captured, 'v4').get('nat')?.chains.values() ?? [])].flat();
  t.match(nat.join('\n'), /MESH_PREROUTING -p tcp -m multiport --dports 9080 -j REDIRECT/, 'captured');
  t.notMatch(
    JSON.stringify([...renderRules(captured, 'v6').values()].map((x) => [...x.chains])),
    /9080/,
    'theirs is left',
  );
  t.match(uncaptured, [{ port: 9080, uid: STRANGER, reason: /by IPv6 is listened on by uid 1002/ }], 'and it is told');
});

t.test("another user's service in both families is left alone", async (t) => {
  const { captured, uncaptured } = await judgeInbound(fakeSockets([socket('::', STRANGER)]), SPEC);
  t.same(captured.inboundPorts, []);
  t.equal(uncaptured.length, 1);
});

function socket(address: string, uid: number): Listener {
  return { family: address.includes(':') ? 'v6' : 'v4', address, port: 9080, uid, inode: uid };
}

function fakeSockets(listeners: Listener[]): Sockets {
  return { listeners: async () => listeners, udp: async () => [], holders: async () => new Map() };
}

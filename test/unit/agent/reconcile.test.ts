import tap from 'tap';
import { parseAgentConfig } from '../../../agent/config.ts';
import { EMPTY, type Quarantine } from '../../../agent/quarantine/quarantine.ts';
import { createReconciler, type Run } from '../../../agent/reconcile.ts';
import type { ResourceSet } from '../../../agent/translate/resource-set.ts';
import type { RefusedByEnvoy, XdsStatus } from '../../../agent/xds/server.ts';
import type { EndpointSnapshot } from '../../../api/gossip/host-record.ts';
import { type MeshObject, objectKey } from '../../../api/resources/object.ts';
import type { DesiredConfig } from '../../../api/signed-config/desired-config.ts';
import { silentLogger } from '../../../runtime/log.ts';

const CONFIG = parseAgentConfig(
  'host: a\ntrustDomain: mesh.test\nworkloads: [{group: default/web, user: web}]\n',
  'agent.yaml',
);
const EMPTY_TABLE: EndpointSnapshot = { version: 0, synced: true, hosts: new Map() };

const object = (kind: string, name: string, spec: object): MeshObject =>
  ({
    apiVersion: kind === 'Service' ? 'v1' : 'networking.istio.io/v1',
    kind,
    metadata: { name, namespace: 'default' },
    spec,
  }) as unknown as MeshObject;
const group = object('WorkloadGroup', 'web', { template: { serviceAccount: 'web', ports: { http: 8080 } } });
const service = object('Service', 'reviews', { selector: { app: 'r' }, ports: [{ port: 80, name: 'http' }] });
const virtualService = (name: string, mark: string) =>
  object('VirtualService', name, {
    hosts: ['reviews'],
    http: [{ headers: { response: { set: { 'x-mark': mark } } }, route: [{ destination: { host: 'reviews' } }] }],
  });

const desiredOf = (generation: number, ...objects: MeshObject[]): DesiredConfig => ({
  generation,
  trustDomain: 'mesh.test',
  objects: new Map(objects.map((o) => [objectKey(o.kind, 'default', o.metadata.name), o])),
  hosts: new Map([['a', { host: 'a', epoch: 1, workloadGroups: ['default/web'], gossipAddresses: [] }]]),
  revokedHosts: new Set(),
  vips: new Map([['reviews.default.svc.cluster.local', { v4: '240.240.0.1', v6: 'fd00:1:2::1' }]]),
  anchors: new Map(),
  minCapability: 1,
});

/** A reconciler over an Envoy that refuses what `refuses` says of the set it was given last. */
function setUp(refuses: (set: ResourceSet) => readonly RefusedByEnvoy[], quarantine: Quarantine = EMPTY) {
  const world = { desired: undefined as DesiredConfig | undefined, settled: true, kept: [] as Quarantine[] };
  const sets: ResourceSet[] = [];
  const runs: Run[] = [];
  const status = (): XdsStatus => ({
    connected: true,
    ackedGeneration: 0,
    settled: world.settled,
    pending: 0,
    refused: sets.length === 0 ? [] : refuses(sets.at(-1) as ResourceSet),
  });
  const reconciler = createReconciler({
    config: CONFIG,
    desired: () => world.desired,
    endpoints: () => EMPTY_TABLE,
    host: () => ({ id: 'a', addresses: ['10.0.0.1'], locality: '', ipv6: true }),
    uids: () => new Map([['web', 2000]]),
    unresolved: () => new Map(),
    ownUids: new Set([998, 999]),
    health: () => 'healthy',
    assigned: {},
    quarantine,
    xds: { setResources: (set) => void sets.push(set), status },
    onRun: (run) => void runs.push(run),
    onQuarantine: (state) => void world.kept.push(state),
    log: silentLogger,
  });
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  /** Runs and verdicts until nothing more follows. */
  const settle = async () => {
    for (let before = -1; before !== runs.length; ) {
      before = runs.length;
      await turn();
      reconciler.onVerdict();
      await turn();
    }
  };
  return { world, sets, runs, reconciler, turn, settle };
}

const refusesMark =
  (bad: string) =>
  (set: ResourceSet): RefusedByEnvoy[] =>
    [...set.resources.route.values()]
      .filter((route) => JSON.stringify(route.body).includes(bad))
      .map((route) => ({
        typeUrl: 'route',
        resource: route.name,
        origins: route.origins,
        message: `cannot parse ${bad}`,
        generation: set.generation,
      }));
const marks = (set: ResourceSet | undefined) => {
  const text = JSON.stringify([...(set?.resources.route.values() ?? [])].map((route) => route.body));
  return ['one', 'two', 'BAD'].filter((mark) => text.includes(`"${mark}"`));
};

tap.test('nothing happens before the first config; what changes together is one run', async (t) => {
  const { world, runs, sets, reconciler, turn } = setUp(() => []);
  reconciler.request();
  await turn();
  t.equal(runs.length, 0);
  world.desired = desiredOf(1, group, service);
  for (let i = 0; i < 5; i++) reconciler.request();
  await turn();
  t.equal(runs.length, 1);
  t.equal(sets[0]?.generation, 1);
  t.match(runs[0]?.bound.workloads, [{ group: 'default/web', uid: 2000, outboundPort: 15001 }]);
});

tap.test('a refused object is held back alone, said with Envoy’s words, and tried again when it changes', async (t) => {
  const { world, sets, reconciler, settle } = setUp(refusesMark('BAD'));
  world.desired = desiredOf(1, group, service, virtualService('v1', 'one'));
  reconciler.request();
  await settle();
  t.strictSame(marks(sets.at(-1)), ['one']);
  t.strictSame(reconciler.refused(), []);

  world.desired = desiredOf(2, group, service, virtualService('v1', 'BAD'));
  reconciler.request();
  await settle();
  t.strictSame(marks(sets.at(-1)), ['one'], 'the last good version stays');
  t.match(reconciler.refused(), [
    { origins: [objectKey('VirtualService', 'default', 'v1')], message: 'cannot parse BAD', generation: 2 },
  ]);
  t.equal(world.kept.at(-1)?.held.size, 1, 'written down');

  world.desired = desiredOf(3, group, service, virtualService('v1', 'two'));
  reconciler.request();
  await settle();
  t.strictSame(marks(sets.at(-1)), ['two']);
  t.strictSame(reconciler.refused(), []);

  world.desired = desiredOf(4, group, service);
  reconciler.request();
  await settle();
  t.strictSame(marks(sets.at(-1)), []);
});

tap.test('a new agent goes on holding back what the one before it held', async (t) => {
  const first = setUp(refusesMark('BAD'));
  first.world.desired = desiredOf(1, group, service, virtualService('v1', 'one'));
  first.reconciler.request();
  await first.settle();
  first.world.desired = desiredOf(2, group, service, virtualService('v1', 'BAD'));
  first.reconciler.request();
  await first.settle();
  const second = setUp(refusesMark('BAD'), first.world.kept.at(-1));
  second.world.desired = first.world.desired;
  second.reconciler.request();
  await second.settle();
  t.strictSame(second.sets.map(marks), [['one']], 'Envoy is not shown the bad one again');
  t.equal(second.reconciler.refused().length, 1);
});

tap.test('a verdict is not taken before Envoy has answered all of it', async (t) => {
  const { world, reconciler, settle, runs } = setUp(refusesMark('BAD'));
  world.settled = false;
  world.desired = desiredOf(1, group, service, virtualService('v1', 'BAD'));
  reconciler.request();
  await settle();
  t.equal(runs.length, 1);
  t.strictSame(world.kept, []);
});

tap.test('a port that somebody else holds is no object’s fault', async (t) => {
  let held = true;
  const { world, sets, reconciler, settle } = setUp((set) =>
    held
      ? [...set.resources.listener.values()].map((listener) => ({
          typeUrl: 'listener',
          resource: listener.name,
          origins: listener.origins,
          message: "cannot bind '127.0.0.1:15001': Address already in use",
          generation: set.generation,
        }))
      : [],
  );
  world.desired = desiredOf(1, group, service, virtualService('v1', 'one'));
  reconciler.request();
  await settle();
  t.match(reconciler.refused()[0], { message: /cannot bind/ }, 'it is said');
  t.strictSame(world.kept, [], 'nothing is held back');
  t.strictSame(marks(sets.at(-1)), ['one']);
  held = false;
  reconciler.onVerdict();
  t.strictSame(reconciler.refused(), [], 'and it goes with its cause');
});

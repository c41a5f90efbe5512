// What objects name is not always to be had: ports of the host's own, sockets that two workloads want.
import { test } from 'tap';
import { buildMeshView } from '../../../../agent/mesh-view/mesh-view.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import { group, meshInput, object, service } from './build-mesh.ts';

const HOSTS = [{ id: 'a', addresses: ['10.0.0.1'], groups: ['shop/till', 'shop/clerk'] }];
const MESH: readonly MeshObject[] = [
  group('till', { http: 8080 }, { namespace: 'shop' }),
  group('clerk', { http: 8090 }, { namespace: 'shop' }),
  service('till', [{ name: 'ssh', port: 80, targetPort: 22 }], { namespace: 'shop' }),
];
const viewOf = (...objects: readonly MeshObject[]) =>
  buildMeshView({
    ...meshInput({ objects: [...MESH, ...objects], hosts: HOSTS }),
    reservedPorts: new Set([22, 15300]),
  });
const sidecar = (spec: object) => object('Sidecar', 'default', spec, { namespace: 'shop' });

test('a port that the host keeps for itself is nobody’s, whoever names it', async (t) => {
  const plain = viewOf();
  t.same(
    plain.workloads.map(({ inboundPorts }) => inboundPorts.map(({ number }) => number)),
    [[8080], [8090]],
    'a Service’s targetPort',
  );
  t.match(plain.portProblems, [/^shop\/till: port 22 is left out/]);
  for (const ingress of [
    [{ port: { number: 22 } }],
    [{ port: { number: 15150 } }],
    [{ port: { number: 8080 }, defaultEndpoint: '127.0.0.1:15300' }],
  ]) {
    const view = viewOf(sidecar({ ingress }));
    t.same(view.workloads[0]?.inboundPorts, [], JSON.stringify(ingress));
    t.ok(view.portProblems.length > 0);
  }
  const socket = (number: number) => ({ port: { number, protocol: 'TCP' }, captureMode: 'NONE', hosts: ['*/*'] });
  t.same(viewOf(sidecar({ egress: [socket(15300)] })).workloads[0]?.egress, []);
});

test('a socket of the proxy’s has one workload, the first in agent.yaml; it is no fault of the Sidecar', async (t) => {
  const egress = [{ port: { number: 3306, protocol: 'TCP' }, captureMode: 'NONE', hosts: ['*/*'] }, { hosts: ['*/*'] }];
  const view = viewOf(sidecar({ egress }));
  t.same(
    view.workloads.map((workload) => workload.egress?.length),
    [2, 1],
  );
  t.match(view.portProblems, [/till: port 22/, /^shop\/clerk: egress port 3306 at 127.0.0.1 .*another workload/]);
});

import { type Node, planLab } from '../lab/plan.ts';
import { parseTopology } from '../lab/topology.ts';

/** The demo's mesh: three hosts, each with its own workloads, and one plain machine on the same network. `up` makes groups and grants. */
export const TOPOLOGY = `controllers: 1
hosts:
  - name: a
    agent: true
    workloads:
      - {name: client, namespace: default, serviceAccount: client, labels: {app: client}, user: hm-client, ports: {http: 7070}}
      - {name: batch, namespace: default, serviceAccount: batch, labels: {app: batch}, user: hm-batch, ports: {http: 7071}}
  - name: b
    agent: true
    workloads:
      - {name: reviews-v1, namespace: default, serviceAccount: reviews, labels: {app: reviews, version: v1}, user: hm-reviews, ports: {http: 9080, tcp: 9081}}
  - name: c
    agent: true
    workloads:
      - {name: reviews-v2, namespace: default, serviceAccount: reviews, labels: {app: reviews, version: v2}, user: hm-reviews, ports: {http: 9080, tcp: 9081}}
      - {name: ratings, namespace: default, serviceAccount: ratings, labels: {app: ratings}, user: hm-ratings, ports: {http: 9090}}
  - name: plain
    agent: false
`;

/** A host of the demo as the lab plans it: its addresses. */
export function nodeOf(name: string): Node {
  const { controllers, hosts } = planLab(parseTopology(TOPOLOGY, 'the demo'));
  const found = [...controllers, ...hosts].find((node) => node.name === name);
  if (found === undefined) throw new Error(`the demo has no host ${name}`);
  return found;
}

/** Servers of each host: [host, user, name, ports]. */
export const SERVERS: readonly (readonly [string, string | undefined, string, string[]])[] = [
  ['a', 'hm-client', 'client', ['http=7070']],
  ['a', 'hm-batch', 'batch', ['http=7071']],
  ['b', 'hm-reviews', 'reviews-v1', ['http=9080', 'tcp=9081']],
  ['c', 'hm-reviews', 'reviews-v2', ['http=9080', 'tcp=9081']],
  ['c', 'hm-ratings', 'ratings', ['http=9090']],
  ['plain', undefined, 'plain', ['http=8080']],
];

/** Ports that workloads serve: between hosts nothing but mTLS may be seen there. */
export const WORKLOAD_PORTS: readonly number[] = [7070, 7071, 9080, 9081, 9090];

/** Full name of a service of the demo. */
export const fullName = (service: string): string => `${service}.default.svc.cluster.local`;

const service = (name: string, app: string, ports: string) => `apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: default}
spec:
  selector: {app: ${app}}
  ports: [${ports}]
---
`;

/** What every mesh user writes first: services by label. */
export const SERVICES = [
  service('reviews', 'reviews', '{name: http, port: 9080}, {name: tcp, port: 9081}'),
  service('ratings', 'ratings', '{name: http, port: 9090}'),
  service('client', 'client', '{name: http, port: 7070}'),
  service('batch', 'batch', '{name: http, port: 7071}'),
].join('');

/** Subsets of reviews by version. */
export const SUBSETS = `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
---
`;

/** A ServiceEntry for a server outside the mesh at `address`, port 8080. */
export const legacyEntry = (address: string): string => `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: legacy, namespace: default}
spec:
  hosts: [legacy.example.test]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{address: ${address}}]
---
`;

/** The mode of mTLS for the whole namespace. */
export const peerAuthentication = (mode: 'STRICT' | 'PERMISSIVE'): string => `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: ${mode}}}
---
`;

/** Parts 3 and 4: configuration by meshctl and plain REST, and the first request over mTLS. */
import { createHash, type X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseChain } from '../../../api/identity/x509.ts';
import { pathsOf } from '../lab/paths.ts';
import { TRUST_DOMAIN } from '../lab/plan.ts';
import { requireTlsOnly, startCapture } from './capture.ts';
import { check, must } from './run.ts';
import type { Step } from './story.ts';
import { legacyEntry, nodeOf, peerAuthentication, SERVICES, SUBSETS, WORKLOAD_PORTS } from './topology.ts';
import { HOSTS, type World } from './world.ts';

const CLIENT = `spiffe://${TRUST_DOMAIN}/ns/default/sa/client`;
const REVIEWS = `spiffe://${TRUST_DOMAIN}/ns/default/sa/reviews`;

/** All kinds that the story uses, in one transaction; the WorkloadGroup is one that no host is granted. */
const ALL_KINDS = `${SERVICES}${SUBSETS}${legacyEntry(nodeOf('plain').ip4)}${peerAuthentication('PERMISSIVE')}apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: spare, namespace: default}
spec:
  metadata: {labels: {app: spare}}
  template: {serviceAccount: spare, labels: {app: spare}, ports: {http: 7999}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings, namespace: default}
spec:
  hosts: [ratings]
  http: [{route: [{destination: {host: ratings}}]}]
`;

async function configuration(world: World, note: (line: string) => void): Promise<void> {
  const applied = await world.apply(ALL_KINDS);
  for (const kind of [
    'Service',
    'ServiceEntry',
    'WorkloadGroup',
    'VirtualService',
    'DestinationRule',
    'PeerAuthentication',
  ])
    check(
      applied.toLowerCase().includes(`${kind.toLowerCase()}`),
      `meshctl apply does not speak of a ${kind}: ${applied}`,
    );
  check(/created/.test(applied), `meshctl apply created nothing: ${applied}`);
  const [again, rows, described] = await Promise.all([
    world.apply(ALL_KINDS),
    world.meshctl(['get', 'services,vs,dr']),
    world.meshctl(['describe', 'b']),
  ]);
  check(!/created|configured/.test(again), `applying twice changed something: ${again}`);
  check(/reviews/.test(must(rows, 'meshctl get').stdout) && /ratings/.test(rows.stdout), `meshctl get: ${rows.stdout}`);
  check(
    /Granted: +default\/reviews-v1/.test(must(described, 'meshctl describe').stdout),
    `describe b: ${described.stdout}`,
  );
  check(/Generation: +\d+ verified, \d+ acknowledged/.test(described.stdout), `describe b: ${described.stdout}`);
  must(await world.meshctl(['delete', 'workloadgroup', 'spare']), 'meshctl delete');
  await plainRest(world, note);
  await world.settled();
  note(
    `meshctl apply: ${applied.trim().split('\n').length} objects in one transaction; get, describe, delete, status answer`,
  );
}

/** What curl alone does to the API, shown as it is typed (the token comes from `scripts/lab env`). */
async function plainRest(world: World, note: (line: string) => void): Promise<void> {
  const { MESH_API, MESH_CA_FILE, MESH_TOKEN } = await world.env();
  const url = `${MESH_API}/apis/networking.istio.io/v1/namespaces/default/virtualservices`;
  const base = ['curl', '-s', '-m', '10', '--cacert', MESH_CA_FILE, '-w', '\n%{http_code}'];
  const bearer = ['-H', `authorization: Bearer ${MESH_TOKEN}`];
  const stranger = must(await world.on('plain', undefined, [...base, url]), 'curl').stdout;
  check(/401$/.test(stranger), `REST without a credential: ${stranger}`);
  const object = {
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name: 'by-curl' },
    spec: { hosts: ['ratings-by-curl'], http: [{ route: [{ destination: { host: 'ratings' } }] }] },
  };
  const write = [...base, ...bearer, '-H', 'content-type: application/json', '-d', JSON.stringify(object), url];
  const made = must(await world.on('plain', undefined, write), 'curl').stdout;
  check(/201$/.test(made), `POST by curl: ${made}`);
  const listed = must(await world.on('plain', undefined, [...base, ...bearer, url]), 'curl').stdout;
  check(/"VirtualServiceList"/.test(listed) && /by-curl/.test(listed) && /200$/.test(listed), `GET by curl: ${listed}`);
  const gone = await world.on('plain', undefined, [...base, ...bearer, '-X', 'DELETE', `${url}/by-curl`]);
  check(/200$/.test(gone.stdout), `DELETE by curl: ${gone.stdout}`);
  note(
    `curl --cacert ca.pem -H "authorization: Bearer $MESH_TOKEN" ${url}: POST 201, GET 200, DELETE 200; without a token 401`,
  );
}

async function firstRequest(world: World, note: (line: string) => void): Promise<void> {
  const captures = await Promise.all(HOSTS.map((host) => startCapture(world, host, 'first')));
  const mark = `plain-text-mark-${process.pid}`;
  const served = new Set<string>();
  await world.until(
    async () => {
      const { reply } = await world.curl('a', 'hm-client', `http://reviews:9080/${mark}`);
      if (reply !== undefined) served.add(reply.service);
      return served.size === 2;
    },
    () => `reviews answers from b and c; it answered from ${[...served].join(' and ') || 'nowhere'}`,
    60_000, // each call is led to either by chance
  );
  let caller = '';
  for (const name of ['reviews', 'reviews.default.svc.cluster.local']) {
    for (const family of ['-4', '-6']) {
      const got = await world.curl('a', 'hm-client', `http://${name}:9080/${mark}`, [family]);
      check(got.status === 200, `curl ${family} http://${name}:9080: ${got.status} ${got.body.slice(0, 300)}`);
      caller = got.reply?.headers['x-forwarded-client-cert'] ?? '';
      check(caller.includes(`URI=${CLIENT}`), `the server does not see who called: ${caller}`);
      check(caller.includes(`By=${REVIEWS}`), `the server does not know itself: ${caller}`);
    }
  }
  // Each TCP connection of an application is a connection of its own between the proxies: captured from its first byte on.
  const lines = await Promise.all([1, 2, 3, 4].map(() => askTcp(world, mark)));
  check(
    lines.every((line) => line.endsWith(mark)),
    `reviews:9081 answered ${lines.join(' ')}`,
  );
  const pcaps = await Promise.all(captures.map((capture) => capture.stop()));
  const verdicts = pcaps.map((pcap) => requireTlsOnly(pcap, WORKLOAD_PORTS, [mark, 'x-forwarded-client-cert']));
  note('reviews and reviews.default.svc.cluster.local answer by DNS and HTTP over IPv4 and IPv6');
  note(
    `captured on the links of a, b, c: ${verdicts.map((v) => v.whole).join(', ')} whole streams, nothing but TLS records`,
  );
  await bothCertificates(world, caller, note);
}

/** A line to reviews:9081 and back. */
export async function askTcp(world: World, line: string): Promise<string> {
  const script = 'exec 3<>/dev/tcp/reviews/9081 && echo "$1" >&3 && timeout 15 head -n 1 <&3';
  return (await world.on('a', 'hm-client', ['bash', '-c', script, 'tcp', line], { timeoutMs: 30_000 })).stdout.trim();
}

/**
 * TLS 1.3 encrypts the certificates, so a capture cannot show them, and the mesh is not weakened to make it. What each proxy verified is told
 * by itself: the server's x-forwarded-client-cert (both URIs, and the hash of the client's certificate, which is the file on a), the
 * client's metrics (the URI of the server's certificate).
 */
async function bothCertificates(world: World, xfcc: string, note: (line: string) => void): Promise<void> {
  const hash = /Hash=([0-9a-f]{64})/.exec(xfcc)?.[1];
  const pem = readFileSync(join(pathsOf('a').stateDir, 'identity/workloads/default_client.pem'), 'utf8');
  const [leaf] = parseChain(pem.slice(pem.indexOf('-----BEGIN CERTIFICATE-----'))) as [X509Certificate];
  const own = createHash('sha256').update(leaf.raw).digest('hex');
  check(hash === own, `the server saw certificate ${hash}, that of client on a is ${own}`);
  const metrics = async () =>
    must(await world.on('a', undefined, ['curl', '-s', '-m', '5', 'http://127.0.0.1:15020/metrics']), 'metrics').stdout;
  const seen = (text: string) =>
    text
      .split('\n')
      .some(
        (line) =>
          line.startsWith('istio_requests_total{') &&
          line.includes('reporter="source"') &&
          line.includes(`source_principal="${CLIENT}"`) &&
          line.includes(`destination_principal="${REVIEWS}"`),
      );
  await world.until(
    async () => seen(await metrics()),
    `istio_requests_total on a names ${CLIENT} and ${REVIEWS}`,
    20_000,
  );
  note(`the server's Envoy verified ${CLIENT} (the very certificate of a), the client's Envoy ${REVIEWS}`);
}

export const meshSteps: readonly Step[] = [
  {
    part: 3,
    name: 'apply',
    title:
      'six kinds are pushed by meshctl, in one transaction, and by plain curl; get, describe, delete, status answer',
    run: configuration,
  },
  {
    part: 4,
    name: 'first-request',
    title: 'a program on a asks DNS for reviews and speaks plain HTTP, over IPv4 and IPv6; the wire carries mTLS',
    run: firstRequest,
  },
];

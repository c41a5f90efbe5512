/** Part 5: routing and resilience by Istio's YAML, on live traffic. */
import { check, must } from './run.ts';
import type { Step } from './story.ts';
import { askTcp } from './story-mesh.ts';
import { SUBSETS } from './topology.ts';
import type { World } from './world.ts';

const virtualService = (http: string, extra = ''): string => `${SUBSETS}apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
${http}
${extra}`;

const to = (subset: string): string => `      route: [{destination: {host: reviews, subset: ${subset}}}]`;

/** A DestinationRule for reviews that has subsets and this policy. */
const withPolicy = (policy: string): string => `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
  trafficPolicy:
    ${policy}
`;

/** How many of `count` requests each service answered, sent by one curl over up to ten connections at a time. */
async function tally(
  world: World,
  count: number,
  url: string,
  args: readonly string[] = [],
): Promise<Map<string, number>> {
  const script =
    'n=$1 url=$2; shift 2; yes "url = \\"$url\\"" | head -n "$n" | curl -s -m 60 --parallel --parallel-max 10 -K - "$@"';
  const command = ['sh', '-c', script, 'tally', String(count), url, ...args];
  const { stdout } = must(await world.on('a', 'hm-client', command, { timeoutMs: 90_000 }), 'tally');
  const seen = new Map<string, number>();
  for (const [, name = ''] of stdout.matchAll(/"service":"([^"]*)"/g)) seen.set(name, (seen.get(name) ?? 0) + 1);
  return seen;
}

const get = (world: World, path: string, args: readonly string[] = []) =>
  world.curl('a', 'hm-client', `http://reviews:9080${path}`, args);

async function pushed(world: World, yaml: string): Promise<void> {
  await world.apply(yaml);
  await world.settled();
}

async function split(world: World, note: (line: string) => void): Promise<void> {
  await pushed(
    world,
    virtualService(`    - route:
        - {destination: {host: reviews, subset: v1}, weight: 80}
        - {destination: {host: reviews, subset: v2}, weight: 20}`),
  );
  // The choice is random: one thousand in 370 is off by more than 3 sigma of a thousand, the mean of four of them is not.
  const seen = await tally(world, 4000, 'http://reviews:9080/split');
  const [v1, v2] = [seen.get('reviews-v1') ?? 0, seen.get('reviews-v2') ?? 0];
  const most = 3 * Math.sqrt(1000 * 0.8 * 0.2);
  check(v1 + v2 === 4000, `${4000 - v1 - v2} of 4,000 requests were not answered`);
  check(Math.abs(v1 / 4 - 800) <= most, `v1 answered ${v1 / 4} of 1,000, expected 800 within ${most.toFixed(0)}`);
  note(`v1 ${v1}, v2 ${v2}: of 1,000 ${v1 / 4} and ${v2 / 4}; 3 sigma is ${most.toFixed(0)}`);
}

const ROUTES = virtualService(`    - name: by-header
      match: [{headers: {end-user: {exact: jason}}}]
${to('v2')}
    - name: rewrite
      match: [{uri: {prefix: /old/}}]
      rewrite: {uri: /new/}
${to('v1')}
    - name: timeout
      match: [{uri: {prefix: /slow}}]
      timeout: 0.3s
${to('v1')}
    - name: retries
      match: [{uri: {prefix: /flaky}}]
      retries: {attempts: 3, perTryTimeout: 2s, retryOn: 5xx}
${to('v1')}
    - name: no-retries
      match: [{uri: {prefix: /once}}]
      rewrite: {uri: /flaky}
      retries: {attempts: 0}
${to('v1')}
    - name: delay
      match: [{uri: {prefix: /delayed}}]
      fault: {delay: {fixedDelay: 0.5s, percentage: {value: 100}}}
${to('v1')}
    - name: abort
      match: [{uri: {prefix: /aborted}}]
      fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
${to('v1')}
    - name: rest
${to('v1')}`);

async function routes(world: World, note: (line: string) => void): Promise<void> {
  await pushed(world, ROUTES);
  const key = `${process.pid}-${Date.now()}`;
  const [header, rest, old, slow, flaky, once, delayed, aborted] = await Promise.all([
    get(world, '/', ['-H', 'end-user: jason']),
    get(world, '/'),
    get(world, '/old/page'),
    get(world, '/slow?sleep=10000'),
    get(world, `/flaky/${key}/2`),
    get(world, `/once/${key}-once/2`),
    get(world, '/delayed'),
    get(world, '/aborted'),
  ]);
  check(header.reply?.service === 'reviews-v2', `header match did not lead to v2: ${header.status} ${header.body}`);
  check(rest.reply?.service === 'reviews-v1', `without the header v1 answers: ${rest.status} ${rest.body}`);
  check(old.reply?.path === '/new/page', `prefix rewrite: ${old.status} ${old.reply?.path}`);
  check(slow.status === 504 && slow.seconds < 8, `timeout: ${slow.status} after ${slow.seconds} s`);
  check(flaky.status === 200, `retries: ${flaky.status}`);
  check(once.status === 503, `without retries the 503 shows: ${once.status}`);
  check(delayed.status === 200 && delayed.seconds >= 0.5, `delay: ${delayed.status} after ${delayed.seconds} s`);
  check(aborted.status === 418, `abort: ${aborted.status}`);
  note(
    `timeout: 504 after ${slow.seconds.toFixed(2)} s; two 503 hidden by retries; delayed ${delayed.seconds.toFixed(2)} s; aborted with 418`,
  );
}

async function tcp(world: World, note: (line: string) => void): Promise<void> {
  const http = `    -${to('v1').slice(5)}`;
  for (const subset of ['v2', 'v1']) {
    await pushed(
      world,
      virtualService(
        http,
        `  tcp:
    - match: [{port: 9081}]
      route: [{destination: {host: reviews, subset: ${subset}, port: {number: 9081}}}]
`,
      ),
    );
    const lines = await Promise.all([1, 2, 3].map((n) => askTcp(world, `hello ${n}`)));
    check(
      lines.every((line, i) => line === `reviews-${subset}: hello ${i + 1}`),
      `TCP to reviews:9081, routed to ${subset}, answered ${lines.join(', ')}`,
    );
  }
  note('connections to reviews:9081 went to v2, then all to v1');
}

async function destinationRule(world: World, note: (line: string) => void): Promise<void> {
  must(await world.meshctl(['delete', 'virtualservice', 'reviews']), 'meshctl delete');
  await pushed(world, withPolicy('loadBalancer: {consistentHash: {httpHeaderName: x-user}}'));
  const places = new Set<string>();
  for (const user of ['ann', 'bob', 'cid', 'dan', 'eve']) {
    const seen = await tally(world, 20, 'http://reviews:9080/', ['-H', `x-user: ${user}`]);
    check(seen.size === 1, `consistent hash: ${user} was served by ${[...seen.keys()].join(' and ') || 'nobody'}`);
    for (const place of seen.keys()) places.add(place);
  }
  await pushed(world, withPolicy('loadBalancer: {simple: ROUND_ROBIN}'));
  const even = await tally(world, 200, 'http://reviews:9080/');
  const v1 = even.get('reviews-v1') ?? 0;
  check(Math.abs(v1 - 100) <= 10 && even.size === 2, `round robin: v1 answered ${v1} of 200`);
  note(`consistent hash: each of 5 users at one place, ${places.size} places in all; round robin: v1 ${v1} of 200`);
  await pool(world, note);
  await outliers(world, note);
  await pushed(world, SUBSETS);
  await world.until(async () => (await get(world, '/')).status === 200, 'reviews serves again', 30_000);
}

async function pool(world: World, note: (line: string) => void): Promise<void> {
  await pushed(
    world,
    withPolicy(
      'connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}}',
    ),
  );
  const script =
    'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do curl -s -m 20 -o /dev/null -w "%{http_code}\\n" "http://reviews:9080/?sleep=500" & done; wait';
  const codes = must(await world.on('a', 'hm-client', ['sh', '-c', script]), 'pool')
    .stdout.trim()
    .split('\n');
  const refused = codes.filter((code) => code === '503').length;
  check(refused >= 4 && codes.includes('200'), `connection pool: ${codes.join(' ')}`);
  note(`a pool of one connection and one waiting request: ${refused} of 12 parallel requests refused with 503`);
}

async function outliers(world: World, note: (line: string) => void): Promise<void> {
  await pushed(
    world,
    withPolicy(
      'outlierDetection: {consecutive5xxErrors: 3, interval: 0.2s, baseEjectionTime: 30s, maxEjectionPercent: 100}',
    ),
  );
  let tries = 0;
  // v1 fails until it is out; then every good request is answered by v2.
  const bad = 'http://reviews:9080/?status=500';
  await world.until(
    async () => {
      tries += 1;
      const { headers } = await headersOf(world, bad);
      return !/x-served-by/i.test(headers);
    },
    'both endpoints are ejected after three 500 each, so nobody answers',
    30_000,
    10,
  );
  note(`outlier detection: nobody was left to answer after ${tries - 1} times 500`);
}

async function headersOf(world: World, url: string): Promise<{ headers: string }> {
  const { stdout } = await world.on('a', 'hm-client', ['curl', '-s', '-m', '5', '-o', '/dev/null', '-D', '-', url]);
  return { headers: stdout };
}

export const configSteps: readonly Step[] = [
  { part: 5, name: 'split', title: 'VirtualService: an 80/20 split over 4,000 requests', run: split },
  {
    part: 5,
    name: 'routes',
    title: 'header match, prefix rewrite, timeout, retries, delay and abort faults',
    run: routes,
  },
  { part: 5, name: 'tcp', title: 'TCP routing to a TCP service', run: tcp },
  {
    part: 5,
    name: 'destination-rule',
    title: 'DestinationRule: load-balancing policies, connection-pool limits, outlier detection',
    run: destinationRule,
  },
];

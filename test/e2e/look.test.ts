// Looking into a host from outside: meshctl asks a controller, which relays to the host's agent, which asks its Envoy; without controllers, on the host.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import tap from 'tap';
import { must } from '../../scripts/lib/demo/run.ts';
import { createWorld } from '../../scripts/lib/demo/world.ts';
import { pathsOf } from '../../scripts/lib/lab/paths.ts';

const TOPOLOGY = `controllers: 1
hosts:
  - {name: a, workloads: [{name: web, serviceAccount: web, labels: {app: web}, user: hm-web}]}
  - {name: b, workloads: [{name: reviews, serviceAccount: reviews, labels: {app: reviews, version: v1}, user: hm-reviews, ports: {http: 9080}}]}
`;
const OBJECTS = `apiVersion: v1
kind: Service
metadata: {name: reviews}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 80, targetPort: 9080}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /gone}}]
    directResponse: {status: 410}
  - route:
    - destination: {host: reviews}
`;

tap.setTimeout(240_000);
tap.test('look', async (t) => {
  const world = createWorld(new AbortController().signal);
  t.teardown(async () => {
    await world.close();
    await createWorld(new AbortController().signal).lab('down');
  });
  const topology = join(world.temp, 'topology.yaml');
  writeFileSync(topology, TOPOLOGY);
  must(await world.lab('up', '--file', topology), 'scripts/lab up');
  const file = join(world.temp, 'reviews.yaml');
  writeFileSync(file, OBJECTS);
  must(await world.meshctl(['apply', '-f', file]), 'apply');
  await world.until(
    async () =>
      /spec\.http\[0\]|http\[0\]/.test(
        (await world.meshctl(['proxy-config', 'routes', 'a', '--fqdn', 'reviews'])).stdout,
      ),
    'the route in Envoy',
    40_000,
  );

  const started = performance.now();
  const routes = await world.meshctl(['proxy-config', 'routes', 'a', '--fqdn', 'reviews']);
  t.ok(performance.now() - started < 10_000, 'within the time of a person');
  t.match(
    routes.stdout,
    /NAME +DOMAINS +MATCH +TARGET +VIRTUAL SERVICE\n.*\/gone\* +answers 410 +reviews\.default http\[0\]\.match\[0\]/,
  );
  t.match(
    (await world.meshctl(['proxy-config', 'secrets', 'b'])).stdout,
    /spiffe:\/\/\S+\/ns\/default\/sa\/reviews +Cert Chain +ACTIVE +true/,
  );
  t.match((await world.meshctl(['proxy-config', 'log', 'b', '--level', 'http:debug'])).stdout, /^http +debug$/m);

  const gone = await world.meshctl(['why', 'a', '->', 'reviews:80/gone', '-f', file]);
  t.equal(gone.code, 1);
  t.match(
    gone.stdout,
    /route +STOP +route 0 answers 410\n(.*\n)*.*by VirtualService\/default\/reviews spec\.http\[0\]\.match\[0\] \(.*reviews\.yaml:14:13\)/,
  );
  let nobody = '';
  await world.until(
    async () => {
      nobody = (await world.meshctl(['why', 'a', '->', 'reviews:80/x'])).stdout;
      return /endpoints +\? +0 of 1 endpoints healthy/.test(nobody);
    },
    () => `a to have heard that nobody listens on 9080 yet: ${nobody}`,
    30_000,
  );
  t.match(
    (await world.meshctl(['describe', 'service', 'reviews'])).stdout,
    /Addresses: +240\.240\.\d+\.\d+, fd.*\n(.*\n)*.*b +default\/reviews/,
  );

  must(await world.lab('stop', 'b', 'agent'), 'stop');
  const off = await world.until(
    async () => {
      const asked = await world.meshctl(['proxy-config', 'routes', 'b']);
      return asked.code !== 0 ? asked : undefined;
    },
    'the controller to notice that b is gone',
    30_000,
  );
  t.equal(off.code, 1);
  t.match(off.stderr, /host b is not connected to this controller: last heard \d+[sm] ago/);

  must(await world.lab('kill', 'controller'), 'kill controller');
  const local = await world.meshctl([
    '--socket',
    join(pathsOf('a').runDir, 'admin.sock'),
    'proxy-config',
    'routes',
    '--fqdn',
    'reviews',
  ]);
  t.match(local.stdout, /answers 410/, 'without any controller, on the host');
  const why = await world.meshctl([
    '--socket',
    join(pathsOf('a').runDir, 'admin.sock'),
    'why',
    '.',
    '->',
    'reviews:80/gone',
  ]);
  t.match(why.stdout, /answers 410/);
});

/** Part 6, and two workloads on one host: who may speak to whom, and as whom. */
import { check } from './run.ts';
import type { Step } from './story.ts';
import { legacyEntry, nodeOf, peerAuthentication } from './topology.ts';
import type { World } from './world.ts';

async function peerAuth(world: World, note: (line: string) => void): Promise<void> {
  const { ip4, ip6 } = nodeOf('b');
  const outside = async () => {
    const asked = [`http://${ip4}:9080/`, `http://[${ip6}]:9080/`].map((url) => world.curl('plain', undefined, url));
    return (await Promise.all(asked)).map(({ status }) => status);
  };
  await world.apply(peerAuthentication('STRICT'));
  await world.settled();
  await world.until(async () => (await outside()).every((status) => status === 0), 'STRICT refuses plaintext', 30_000);
  check(
    (await world.curl('a', 'hm-client', 'http://reviews:9080/')).status === 200,
    'STRICT: a mesh client is not served',
  );
  await world.apply(`${peerAuthentication('PERMISSIVE')}${legacyEntry(nodeOf('plain').ip4)}`);
  await world.settled();
  await world.until(
    async () => (await outside()).every((status) => status === 200),
    'PERMISSIVE serves plaintext',
    30_000,
  );
  const stranger = await world.curl('plain', undefined, `http://${ip4}:9080/`, [
    '-H',
    'x-forwarded-client-cert: URI=spiffe://mesh.test/ns/default/sa/client',
  ]);
  const claimed = stranger.reply?.headers['x-forwarded-client-cert'];
  check(stranger.status === 200 && claimed === undefined, `a stranger passes as ${claimed}`);
  let status = 0;
  await world.until(
    async () => {
      const answer = await world.curl('a', 'hm-client', 'http://legacy.example.test:8080/');
      status = answer.status;
      return answer.reply?.service === 'plain';
    },
    () => `a server outside the mesh answers in plaintext; it answered ${status}`,
    30_000,
  );
  note('a client outside: refused under STRICT, served under PERMISSIVE, over both families, as nobody');
  note('legacy.example.test, a server outside: spoken to in plaintext');
}

async function twoWorkloads(world: World, note: (line: string) => void): Promise<void> {
  const caller = async (user: string) =>
    (await world.curl('a', user, 'http://reviews:9080/')).reply?.headers['x-forwarded-client-cert'] ?? '';
  const [client, batch] = await Promise.all([caller('hm-client'), caller('hm-batch')]);
  check(client.includes('/sa/client') && batch.includes('/sa/batch'), `identities: ${client} and ${batch}`);
  const local = await world.curl('a', 'hm-client', 'http://batch:7071/');
  check(local.reply?.service === 'batch', `from client to batch on the same host: ${local.status} ${local.body}`);
  const seen = local.reply?.headers['x-forwarded-client-cert'] ?? '';
  check(seen.includes('/sa/client'), `traffic on one host did not meet mTLS: ${seen}`);
  note('client and batch on a: each seen as itself by reviews; client to batch on the same host is mTLS too');
}

export const policySteps: readonly Step[] = [
  {
    part: 6,
    name: 'peer-authentication',
    title: 'STRICT refuses a client outside the mesh, PERMISSIVE serves it; a server outside is spoken to in plaintext',
    run: peerAuth,
  },
  {
    part: 6,
    name: 'two-workloads',
    title: 'two workloads on one host: each its own identity, policy between them too',
    run: twoWorkloads,
  },
];

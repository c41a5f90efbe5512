import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import Fastify from 'fastify';
import t from 'tap';
import { createControllerClient, type ServerTrust } from '../../../../agent/controlplane/client.ts';
import { AGENT_API } from '../../../../api/http/agent-api.ts';
import { sha256Hex } from '../../../../api/signed-config/canonical.ts';
import { parseUpdate } from '../../../../api/signed-config/update.ts';
import { versionsOf } from '../../../../api/signed-config/verifier.ts';
import { CONFIG_STATUS, registerConfigRoutes } from '../../../../controller/publish/config-routes.ts';
import { systemClock } from '../../../../runtime/clock.ts';
import { createSignedMesh, service, virtualService } from '../../../builders/signed-mesh.ts';
import { createTestCa } from '../../../builders/test-ca.ts';
import { until } from '../../../fakes/until.ts';

const ZERO = { root: 0, generation: 0, timestamp: 0 };

t.test(
  'config over TLS: full copy, 204, long poll answered by the write, bounded waiters, root version 1',
  async (t) => {
    const mesh = await createSignedMesh(t.testdir());
    t.teardown(() => mesh.close());
    await mesh.put(service('web'));
    const ca = createTestCa();
    const identity = ca.controller('c1', ['127.0.0.1']);
    const server = Fastify({ https: { cert: identity.chainPem, key: identity.privateKeyPem } });
    server.setErrorHandler((error, _request, reply) =>
      reply
        .code(CONFIG_STATUS[(error as { code?: string }).code ?? ''] ?? 500)
        .send({ code: (error as { code?: string }).code }),
    );
    let waits = 0;
    const countedAfter = (ms: number, fn: () => void) => {
      waits++;
      return systemClock.after(ms, fn);
    };
    const clock = { ...systemClock, after: countedAfter };
    registerConfigRoutes(server, { signer: mesh.signer, clock, maxWaitersPerAddress: 2 });
    const url = await server.listen({ port: 0, host: '127.0.0.1' });
    t.teardown(() => server.close());
    let trust: ServerTrust | undefined;
    const client = createControllerClient({ trust: () => trust, now: Date.now });
    t.teardown(() => client.close());

    t.equal(sha256Hex((await client.rootV1(url)).text), mesh.rootSha256, 'a host that joins compares this');
    trust = { intermediates: [ca.intermediatePem], trustDomain: 'mesh.test' };
    const state = mesh.signer.latest();
    if (state === undefined) throw new Error('nothing signed');
    const full = parseUpdate((await client.config(url, ZERO, 0)) ?? '');
    t.equal(full.content?.policy?.kind, 'full');
    t.equal(await client.config(url, versionsOf(state), 0), undefined, 'nothing newer');

    const waiting = client.config(url, versionsOf(state), 20);
    await until(() => waits === 1, 'the request to wait');
    await mesh.put(virtualService('web'));
    const delta = parseUpdate((await waiting) ?? '');
    t.same(Object.keys(delta.content?.policy?.set ?? {}), ['object/VirtualService/default/web']);
    t.equal(delta.targets, undefined, 'what is held is not sent again');

    const latest = mesh.signer.latest();
    if (latest === undefined) throw new Error('nothing signed');
    const abort = new AbortController();
    const first = [1, 2].map(() => client.config(url, versionsOf(latest), 20, abort.signal));
    for (const request of first) request.catch(() => {});
    await until(() => waits === 3, 'two to wait');
    await t.rejects(client.config(url, versionsOf(latest), 20), { code: 'CONTROLLER_REFUSED', message: /429/ });
    abort.abort();
    await Promise.allSettled(first);
    await until(async () => {
      const again = new AbortController();
      const request = client.config(url, versionsOf(latest), 20, again.signal).catch((error: Error) => error.message);
      const before = waits;
      const refused = await Promise.race([request, until(() => waits > before, 'a place').catch(() => 'none')]);
      again.abort();
      return typeof refused !== 'string' || !refused.includes('429');
    }, 'the places of those who left to be free');
    for (const query of ['generation=-1', 'wait=56', 'wait=x', 'other=1']) {
      const answer = await server.inject({ url: `${AGENT_API.config}?${query}` });
      t.equal(answer.statusCode, 400, query);
    }
  },
);

t.test('who the client talks to: a controller of this mesh by a listed intermediate, nobody else', async (t) => {
  const ca = createTestCa();
  const controller = ca.controller('c1', []);
  const cases = [
    { name: 'listed', identity: controller, trust: ca, ok: true },
    { name: 'an intermediate that is not listed', identity: controller, trust: createTestCa(), ok: false },
    { name: 'a host of the mesh', identity: ca.host('h1'), trust: ca, ok: false },
    { name: 'a workload', identity: ca.workload('default', 'web', 'h1'), trust: ca, ok: false },
  ];
  for (const { name, identity, trust, ok } of cases) {
    const server = createServer({ cert: identity.chainPem, key: identity.privateKeyPem }, (_request, response) =>
      response.writeHead(204).end(),
    );
    let connections = 0;
    server.on('secureConnection', () => connections++);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const held: ServerTrust = { intermediates: [trust.intermediatePem], trustDomain: 'mesh.test' };
    const client = createControllerClient({ trust: () => held, now: Date.now });
    const result = client.config(url, ZERO, 0);
    if (ok) {
      t.equal(await result, undefined, name);
      await client.config(url, ZERO, 0);
      t.equal(connections, 1, 'a verified connection is kept');
    } else await t.rejects(result, { code: /CONTROLLER_UNREACHABLE|SVID_UNTRUSTED/ }, name);
    client.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

t.test('an answer without end is cut off', async (t) => {
  const identity = createTestCa().controller('c1', []);
  const server = createServer({ cert: identity.chainPem, key: identity.privateKeyPem }, (_request, response) => {
    response.writeHead(200);
    const chunk = Buffer.alloc(1024 * 1024);
    const more = () => {
      while (!response.destroyed && response.write(chunk));
      if (!response.destroyed) response.once('drain', more);
    };
    more();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.closeAllConnections());
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  const client = createControllerClient({ trust: () => undefined, now: Date.now });
  t.teardown(() => client.close());
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await t.rejects(client.rootV1(url), { code: 'CONFIG_TOO_LARGE' });
});

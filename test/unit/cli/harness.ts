import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type tap from 'tap';
import { notFound, unauthorized } from '../../../api/http/status-errors.ts';
import { issueCertificate } from '../../../api/identity/x509.ts';
import type { CliContext } from '../../../cli/context.ts';
import { runCli } from '../../../cli/program.ts';

/** When the tests run. */
const NOW = Date.parse('2026-11-25T06:00:00Z');
export const TOKEN = 'secret-token';

export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly authorization: string | undefined;
  readonly body: unknown;
}

/** An authority and a server certificate of it for 127.0.0.1. */
function serverIdentity(): { ca: string; cert: string; key: string } {
  const authority = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const server = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issue = (publicKey: KeyObject, more: object): string =>
    issueCertificate({
      commonName: 'test',
      publicKey,
      issuer: { commonName: 'test authority', privateKey: authority.privateKey },
      serial: randomBytes(16),
      notBefore: Date.now() - 60_000,
      notAfter: Date.now() + 3_600_000,
      ...more,
    });
  return {
    ca: issue(authority.publicKey, { commonName: 'test authority', ca: { pathLength: 0 } }),
    cert: issue(server.publicKey, { ipAddresses: ['127.0.0.1'] }),
    key: server.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

export type Answer = readonly [status: number, body: unknown];

/** A controller with fixed answers: `METHOD PATH` (without query) -> answer. */
export async function fakeController(
  t: Pick<typeof tap, 'teardown' | 'testdir'>,
  answers: Record<string, Answer>,
): Promise<{ env: Record<string, string>; seen: Seen[]; home: string }> {
  const { ca, cert, key } = serverIdentity();
  const seen: Seen[] = [];
  const server: Server = createServer({ cert, key }, async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const { method = '', url = '', headers } = request;
    seen.push({
      method,
      path: url,
      authorization: headers.authorization,
      body: text === '' ? undefined : JSON.parse(text),
    });
    const known = answers[`${method} ${url.split('?')[0]}`];
    const [status, body] =
      headers.authorization !== `Bearer ${TOKEN}`
        ? [401, unauthorized()]
        : (known ?? [404, notFound({ group: '', plural: 'things', name: 'x' })]);
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  const home = t.testdir({ 'ca.pem': ca });
  const { port } = server.address() as AddressInfo;
  return {
    env: { MESH_API: `https://127.0.0.1:${port}`, MESH_CA_FILE: join(home, 'ca.pem'), MESH_TOKEN: TOKEN },
    seen,
    home,
  };
}

/** meshctl with its output caught. */
export async function run(args: string[], world: { env?: Record<string, string>; home?: string; stdin?: string } = {}) {
  const out: string[] = [];
  const err: string[] = [];
  const context: CliContext = {
    env: world.env ?? {},
    home: world.home ?? '/nonexistent',
    out: (text) => void out.push(text),
    err: (text) => void err.push(text),
    readStdin: async () => world.stdin ?? '',
    now: () => NOW,
  };
  const code = await runCli(args, context);
  return { code, out: out.join('\n'), err: err.join('\n') };
}

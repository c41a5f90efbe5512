import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { InjectOptions } from 'fastify';
import type t from 'tap';
import { MeshError } from '../../../../api/errors.ts';
import type { HostQuery } from '../../../../api/http/host-query.ts';
import type { Host, JoinToken } from '../../../../api/http/operator-api.ts';
import type { Status } from '../../../../api/http/status-errors.ts';
import { issueCertificate } from '../../../../api/identity/x509.ts';
import type { MeshObject } from '../../../../api/resources/object.ts';
import type { Verb } from '../../../../api/resources/registry.ts';
import { putPrincipal } from '../../../../controller/rest/principals.ts';
import { createRest, type Rest, type RestOptions } from '../../../../controller/rest/server.ts';
import { createSecretVault } from '../../../../controller/store/secret-vault.ts';
import { initSqliteStore, openSqliteStore, type SqliteStore } from '../../../../controller/store/sqlite.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createFakeClock, type FakeClock } from '../../../fakes/fake-clock.ts';

export const TRUST_DOMAIN = 'mesh.test';
type Tap = Pick<typeof t, 'testdir' | 'teardown'>;

export interface Answered {
  readonly code: number;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever came
  readonly body: any;
  readonly headers: Record<string, unknown>;
}

export interface Harness {
  /** The test's own folder; t.testdir must not be called again: it would empty it. */
  readonly folder: string;
  readonly rest: Rest;
  readonly store: SqliteStore;
  readonly clock: FakeClock;
  readonly commits: number[];
  readonly auditPath: string;
  readonly revoked: string[];
  /** Questions that went to hosts. Host b never answers. */
  readonly asked: readonly (readonly [host: string, query: HostQuery])[];
  readonly ca: string;
  readonly adminToken: string;
  /** A request as mesh-admin, JSON both ways unless `headers` say otherwise. */
  send(method: string, url: string, body?: unknown, headers?: Record<string, string>): Promise<Answered>;
  /** The same as another principal. */
  as(principal: { namespaces?: readonly string[]; verbs?: readonly Verb[] }): Promise<Harness['send']>;
}

/** A certificate of a CA of its own, for localhost. */
export function selfMade(): {
  cert: string;
  key: string;
  ca: string;
  issue: (uri: string) => { cert: string; key: string };
} {
  const ca = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const [notBefore, notAfter] = [Date.now() - 60_000, Date.now() + 3_600_000];
  const issuer = { commonName: 'test CA', privateKey: ca.privateKey };
  const caPem = issueCertificate({
    commonName: 'test CA',
    publicKey: ca.publicKey,
    issuer,
    serial: randomBytes(16),
    notBefore,
    notAfter,
    ca: { pathLength: 0 },
  });
  const issue = (uri: string) => {
    const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const cert = issueCertificate({
      commonName: 'leaf',
      publicKey: pair.publicKey,
      issuer,
      serial: randomBytes(16),
      notBefore,
      notAfter,
      uris: [uri],
      dnsNames: ['localhost'],
      ipAddresses: ['127.0.0.1'],
    });
    return { cert, key: pair.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString() };
  };
  return { ...issue('spiffe://mesh.test/controller/c1'), ca: caPem, issue };
}

/** A REST server on a fresh store and a loopback port of its own. `send` injects requests without a socket. */
export async function startRest(t: Tap, options: Partial<RestOptions> = {}): Promise<Harness> {
  const folder = t.testdir();
  const path = join(folder, 'store.db');
  initSqliteStore(path);
  const store = openSqliteStore({ path });
  const clock = createFakeClock();
  const commits: number[] = [];
  const revoked: string[] = [];
  const asked: [string, HostQuery][] = [];
  const auditPath = join(folder, 'audit.jsonl');
  const tls = selfMade();
  const rest = createRest(
    {
      replica: 'c1',
      trustDomain: TRUST_DOMAIN,
      listen: { host: '127.0.0.1', port: 0 },
      tls,
      auditPath,
      ...options,
    },
    {
      store,
      clock,
      log: silentLogger,
      hosts: fakeHosts(revoked),
      tokens: { create: async (spec) => fakeToken(spec) },
      authority: { issueOperatorFor: (name) => `certificate of ${name}` },
      questions: {
        ask: async (host, query) => {
          asked.push([host, query]);
          if (host === 'b') throw new MeshError('HOST_SILENT', 'host b is not connected: last heard 5m ago');
          return { host, generation: 3, at: '2026-11-25T01:00:00Z', levels: { http: 'info' } };
        },
      },
      vault: createSecretVault(Buffer.alloc(32, 7)),
      status: async () =>
        ({ apiVersion: 'hostmesh.io/v1', kind: 'MeshStatus', revision: await store.revision() }) as never,
      onCommit: (revision) => commits.push(revision),
    },
  );
  await rest.start(new AbortController().signal);
  t.teardown(async () => {
    await rest.stop();
    await store.close();
  });
  const adminToken = await putPrincipal(store, { name: 'root', role: 'admin', namespaces: [] });
  let others = 0;
  const sender =
    (token: string): Harness['send'] =>
    async (method, url, body, headers = {}) => {
      const raw = typeof body === 'string' || Buffer.isBuffer(body) || body === undefined;
      const answer = await rest.server.inject({
        method: method as InjectOptions['method'] & 'GET',
        url,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body !== undefined && { 'content-type': 'application/json' }),
          ...headers,
        },
        payload: raw ? (body as string | undefined) : JSON.stringify(body),
      });
      const json = String(answer.headers['content-type'] ?? '').includes('json') && answer.payload !== '';
      return {
        code: answer.statusCode,
        body: json ? JSON.parse(answer.payload) : answer.payload,
        headers: answer.headers,
      };
    };
  return {
    folder,
    rest,
    store,
    clock,
    commits,
    auditPath,
    revoked,
    asked,
    ca: tls.ca,
    adminToken,
    send: sender(adminToken),
    as: async ({ namespaces = ['shop'], verbs }) => {
      const name = `op${others++}`;
      return sender(await putPrincipal(store, { name, role: 'namespace', namespaces, verbs }));
    },
  };
}

function fakeHosts(revoked: string[]) {
  const host = (name: string): Host => ({
    apiVersion: 'hostmesh.io/v1',
    kind: 'Host',
    metadata: { name },
    spec: { workloadGroups: ['shop/cart'], gossipAddresses: [], epoch: 1, revoked: revoked.includes(name) },
  });
  return {
    list: async () => ['a', 'b'].map(host),
    revoke: async (name: string) => {
      if (name !== 'a' && name !== 'b') return undefined;
      revoked.push(name);
      return host(name);
    },
  };
}

function fakeToken(spec: JoinToken['spec']): NonNullable<JoinToken['status']> {
  return { id: '0123456789abcdef', joinString: `join-${spec.host}`, expires: '2026-11-25T01:00:00Z' };
}

export const VS = '/apis/networking.istio.io/v1/namespaces/shop/virtualservices';
export const SE = '/apis/networking.istio.io/v1/namespaces/shop/serviceentries';

/** A VirtualService that is valid alone. */
export function virtualService(name: string, weight = 100, more: object = {}): MeshObject {
  return {
    apiVersion: 'networking.istio.io/v1',
    kind: 'VirtualService',
    metadata: { name, ...more },
    spec: { hosts: ['reviews'], http: [{ route: [{ destination: { host: 'reviews' }, weight }] }] },
  };
}

export function serviceEntry(name: string, spec: object = {}): MeshObject {
  const ports = [{ number: 80, name: 'http', protocol: 'HTTP' }];
  return {
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: { name },
    spec: {
      hosts: [`${name}.shop.svc.cluster.local`],
      ports,
      resolution: 'STATIC',
      location: 'MESH_INTERNAL',
      ...spec,
    },
  };
}

/** Field names of a Status' causes. */
export function fields(status: Status): (string | undefined)[] {
  return (status.details?.causes ?? []).map((cause) => cause.field);
}

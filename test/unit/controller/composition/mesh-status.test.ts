import { generateKeyPairSync, randomBytes } from 'node:crypto';
import t from 'tap';
import type { Host } from '../../../../api/http/operator-api.ts';
import { issueCertificate } from '../../../../api/identity/x509.ts';
import { type MeshStatusSources, meshStatus } from '../../../../controller/mesh-status.ts';
import { createSignedMesh } from '../../../builders/signed-mesh.ts';

const DAY_MS = 86_400_000;
const NOW = Date.parse('2026-11-25T00:00:00Z');

function intermediate(notAfter: number): string {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuer = { commonName: 'root', privateKey };
  const validity = { notBefore: NOW - DAY_MS, notAfter };
  return issueCertificate({
    commonName: 'c',
    publicKey,
    issuer,
    serial: randomBytes(16),
    ca: { pathLength: 0 },
    ...validity,
  });
}

const anchor = (replica: string, end = NOW + 400 * DAY_MS) => ({
  replica,
  intermediatePem: intermediate(end),
  agentUrls: [`https://${replica}.test:15201`],
});

function host(name: string, more: { revoked?: boolean; acked?: number; silentMs?: number } = {}): Host {
  const reportedAt = new Date(NOW - (more.silentMs ?? 0)).toISOString();
  return {
    apiVersion: 'hostmesh.io/v1',
    kind: 'Host',
    metadata: { name },
    spec: { workloadGroups: [], gossipAddresses: [], epoch: 1, revoked: more.revoked ?? false },
    ...(more.acked === undefined ? {} : { status: { ackedGeneration: more.acked, reportedAt } as Host['status'] }),
  };
}

const SOURCES: MeshStatusSources = {
  replica: 'c1',
  trustDomain: 'mesh.test',
  startedAt: NOW - 1000,
  now: NOW,
  revision: 12,
  objects: 3,
  signed: undefined,
  signingProblems: [],
  anchors: [anchor('c1'), anchor('c2')],
  hosts: [],
  rootKeysHere: false,
};

t.test('who is counted as reporting and as current', async (t) => {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  const signed = mesh.signer.latest();
  const generation = signed?.accepted?.generation as number;
  const hosts = [
    host('current', { acked: generation }),
    host('behind', { acked: generation - 1 }),
    host('silent for 59 s', { acked: generation, silentMs: 59_000 }),
    host('silent for a minute', { acked: generation, silentMs: 60_000 }),
    host('never heard'),
    host('revoked', { acked: generation, revoked: true }),
  ];
  const status = meshStatus({ ...SOURCES, signed, hosts, rootKeysHere: true });
  t.same(status.hosts, { total: 5, reporting: 3, current: 2, revoked: 1 });
  t.match(status, {
    generation,
    revision: 12,
    objects: 3,
    rootKeys: { total: 1, threshold: 1, keptOnController: true },
    timestampExpires: new Date(mesh.clock.now() + 3_600_000).toISOString().replace('.000', ''),
  });
  t.same(status.problems, []);
});

t.test('replicas: the one that answers is the one it knows of', async (t) => {
  t.same(meshStatus(SOURCES).controllers, [
    { name: 'c1', url: 'https://c1.test:15201', self: true, reachable: true, startedAt: '2026-11-24T23:59:59.000Z' },
    { name: 'c2', url: 'https://c2.test:15201', self: false, reachable: false },
  ]);
});

t.test('what ends soon is a problem long before', async (t) => {
  const mesh = await createSignedMesh(t.testdir());
  t.teardown(() => mesh.close());
  const signed = mesh.signer.latest();
  const anchors = [anchor('c1', NOW + 179 * DAY_MS), anchor('c2', NOW + 181 * DAY_MS)];
  const signingProblems = ['config is not signed: the disk is full'];
  t.match(meshStatus({ ...SOURCES, signed, anchors, signingProblems }).problems, [
    'config is not signed: the disk is full',
    /^the CA of controller c1 expires at 2027-05-23T00:00:00.000Z: /,
  ]);
  const rootEnds = Date.parse(signed?.root.metadata.signed.expires ?? '');
  t.match(meshStatus({ ...SOURCES, anchors: [], signed, now: rootEnds - 179 * DAY_MS }).problems, [
    /^the TUF root expires at /,
  ]);
  t.same(meshStatus({ ...SOURCES, anchors: [], signed, now: rootEnds - 181 * DAY_MS }).problems, []);
});

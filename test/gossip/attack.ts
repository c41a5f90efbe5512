/** What the tests of attacks share: a small mesh with one member that the test plays itself. */
import type { Stream } from '@libp2p/interface';
import type { Test } from 'tap';
import { createTestMesh, type MeshHost, sees, show, type TestMesh, until } from './mesh.ts';
import { createRawPeer, type RawPeer } from './raw-peer.ts';

/** Three good hosts; h3 and up are granted and played by this file. */
export async function meshAndMember(
  t: Test,
  options: { listen?: string; pubsub?: boolean } = {},
): Promise<{ mesh: TestMesh; h0: MeshHost; bad: RawPeer; identity: ReturnType<TestMesh['ca']['host']> }> {
  const mesh = createTestMesh(10);
  t.teardown(() => mesh.stop());
  for (const h of ['h0', 'h1', 'h2']) await mesh.add(h);
  const all = [...mesh.hosts.values()];
  await until(
    () => all.every((h) => all.every((o) => sees(h, o.host))),
    15_000,
    () => show(mesh),
  );
  const identity = mesh.ca.host('h3');
  const bad = await createRawPeer('h3', mesh.ca.trustDomain, identity, options);
  t.teardown(() => bad.stop());
  return { mesh, h0: mesh.hosts.get('h0')!, bad, identity };
}

/** What the other side may have closed already is not the test's concern. */
export function say(stream: Stream | undefined, bytes: Uint8Array): void {
  try {
    stream?.send(bytes);
  } catch {
    // reset by the host under test
  }
}

/** `host` holds a link to `peer`. */
export const linked = (host: MeshHost, peer: string) => host.gossip.peers().some((p) => p.host === peer && p.linked);

/** The good hosts still hear one another: a change of one is known to the others. */
export async function stillWorks(t: Test, mesh: TestMesh, network: string): Promise<void> {
  const h1 = mesh.hosts.get('h1')!;
  await h1.gossip.publishOwn({ network, addresses: [h1.address], workloads: [] });
  const took = await until(
    () => [...mesh.hosts.values()].every((h) => h.gossip.snapshot().hosts.get('h1')?.record.network === network),
    5000,
    () => show(mesh),
  );
  t.ok(took < 3000, `good records flow on: ${Math.round(took)} ms`);
}

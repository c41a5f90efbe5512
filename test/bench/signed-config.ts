/** What signed config costs at 2,000 objects: bytes and CPU of a change, boot from disk. `run` returns the figures; ms are medians. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createConfigCache } from '../../agent/controlplane/cache.ts';
import { createTrustedConfig } from '../../agent/controlplane/trusted-config.ts';
import { parseUpdate } from '../../api/signed-config/update.ts';
import { acceptRoots, acceptUpdate, trustAnchor, versionsOf } from '../../api/signed-config/verifier.ts';
import { createSignedMesh, optionsAt, virtualService } from '../builders/signed-mesh.ts';

const OBJECTS = 2000;
const CHANGES = 30;

export async function run(): Promise<object> {
  const dir = await mkdtemp(join(tmpdir(), 'bench-signed-config-'));
  const mesh = await createSignedMesh(dir);
  try {
    await mesh.put(...Array.from({ length: OBJECTS }, (_, i) => virtualService(`v${i}`)));
    const full = mesh.signer.history.updateFor({ root: 1, generation: 0, timestamp: 0 }) ?? '';
    const now = mesh.clock.now();
    const cold: number[] = [];
    let state = trustAnchor(mesh.rootText);
    for (let i = 0; i < 5; i++)
      cold.push(
        timed(() => {
          const u = parseUpdate(full);
          state = acceptUpdate(acceptRoots(trustAnchor(mesh.rootText), u), u, optionsAt(now));
        }),
      );
    const cache = createConfigCache(join(dir, 'host'));
    await cache.initialise(mesh.rootText);
    const trusted = createTrustedConfig(
      { state: trustAnchor(mesh.rootText), desired: undefined },
      { cache, now: () => now },
    );
    await trusted.offer(full);
    const [write, verify, persist, bytes]: number[][] = [[], [], [], []];
    for (let i = 0; i < CHANGES; i++) {
      let start = performance.now();
      await mesh.put(virtualService(`v${i}`, 'changed'));
      write?.push(performance.now() - start);
      const text = mesh.signer.history.updateFor(versionsOf(state)) ?? '';
      bytes?.push(Buffer.byteLength(text));
      verify?.push(
        timed(() => {
          const u = parseUpdate(text);
          state = acceptUpdate(acceptRoots(state, u), u, optionsAt(now));
        }),
      );
      start = performance.now();
      await trusted.offer(text);
      persist?.push(performance.now() - start);
    }
    const start = performance.now();
    await createConfigCache(join(dir, 'host')).load();
    return {
      objects: OBJECTS,
      fullCopyBytes: Buffer.byteLength(full),
      changeBytes: median(bytes),
      controllerWriteToPublishedMs: median(write),
      hostVerifyChangeMs: median(verify),
      hostVerifyAndPersistChangeMs: median(persist),
      hostVerifyFullMs: median(cold),
      bootFromDiskMs: round(performance.now() - start),
    };
  } finally {
    await mesh.close();
    await rm(dir, { recursive: true });
  }
}

function timed(fn: () => void): number {
  const start = performance.now();
  fn();
  return performance.now() - start;
}

function median(values: readonly number[] = []): number {
  return round([...values].sort((a, b) => a - b)[values.length >> 1] ?? 0);
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

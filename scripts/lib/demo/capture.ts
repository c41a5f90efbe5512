/** Captures on a host's link. In: a host. Out: the pcap file, and a verdict on it: nothing but TLS between workloads, the mark nowhere. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readStreams, type Stream } from './pcap.ts';
import { check } from './run.ts';
import type { World } from './world.ts';

export interface Capture {
  stop(): Promise<Buffer>;
}

/** tcpdump of all TCP on the link of `host`, until stopped. */
export async function startCapture(world: World, host: string, name: string): Promise<Capture> {
  const file = join(world.temp, `${name}-${host}.pcap`);
  // Ends when its stdin does; `wait` lets tcpdump write what it has. -B (KiB): of its usual buffer a packet at once takes a 32nd, whatever
  // its size, and what a busy machine lets pass unread would look like a gap.
  const script =
    'tcpdump -i eth0 -Z root -s 0 -U --immediate-mode -B 32768 -w "$1" tcp & p=$!; cat >/dev/null; kill -INT $p; wait $p';
  const running = await world.start(host, undefined, ['sh', '-c', script, 'capture', file], /listening on/);
  return {
    async stop() {
      await running.finish();
      return readFileSync(file);
    },
  };
}

export interface Verdict {
  /** Connections between workloads whose first byte was captured; all were TLS. */
  readonly whole: number;
  readonly bytes: number;
}

/**
 * Throws unless every stream to or from `ports` is TLS from its first byte (or older than the capture), at least one of them is whole, and
 * none of `marks` stands readable anywhere in the capture.
 */
export function requireTlsOnly(pcap: Buffer, ports: readonly number[], marks: readonly string[]): Verdict {
  for (const mark of marks) check(!pcap.includes(mark), `${mark} is readable on the wire`);
  const streams = readStreams(pcap).filter((s) => ports.includes(s.sourcePort) || ports.includes(s.destinationPort));
  const bad = streams.filter((s) => s.kind === 'plain' || s.kind === 'gap');
  check(bad.length === 0, `not TLS on the wire: ${bad.map((s: Stream) => `${s.name} (${s.kind})`).join(', ')}`);
  const whole = streams.filter((s) => s.kind === 'tls');
  check(whole.length > 0, `no whole TLS stream among the ${streams.length} captured`);
  return { whole: whole.length, bytes: streams.reduce((sum, s) => sum + s.bytes, 0) };
}

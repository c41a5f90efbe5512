import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { Client, credentials } from '@grpc/grpc-js';
import { createExecLook } from './exec-call.ts';
import type { PortCall, ProbeCall } from './plan.ts';
import type { Outcome } from './verdict.ts';

/** Looks once, by a port at `address`, or by a command (then `address` is nothing). `signal` ends it; then, and whenever else nothing good came back, the outcome is a failure with its cause. Never rejects. */
export type Look = (call: ProbeCall, address: string, signal: AbortSignal) => Promise<Outcome>;

/** A probe's answer is a status: more of a body than this is not read. */
const MAX_BODY_BYTES = 10 << 10;
const MAX_HEADER_BYTES = 16 << 10;

const lookExec = createExecLook();

/** Looks by a command, or by HTTP, TCP or gRPC at an address of this host. Redirects are answers, not followed; no certificate is judged (Kubernetes). */
export const look: Look = (call, address, signal) => {
  switch (call.kind) {
    case 'http':
      return lookHttp(call, address, signal);
    case 'tcp':
      return lookTcp(call.port, address, signal);
    case 'grpc':
      return lookGrpc(call, address, signal);
    case 'exec':
      return lookExec(call, signal);
  }
};

const failure = (why: string): Outcome => ({ ok: false, why: why.slice(0, 200) });

function lookHttp(call: PortCall & { kind: 'http' }, address: string, signal: AbortSignal): Promise<Outcome> {
  const headers: Record<string, string> = { 'user-agent': 'mesh-agent-probe/1', accept: '*/*', connection: 'close' };
  for (const [name, value] of call.headers) headers[name.toLowerCase()] = value;
  const name = headers.host?.replace(/:\d+$/, '') ?? '';
  const options = { host: address, port: call.port, path: call.path, headers, agent: false, signal };
  return new Promise((resolve) => {
    const done = (response: http.IncomingMessage) => {
      const { statusCode = 0 } = response;
      resolve(statusCode >= 200 && statusCode < 400 ? { ok: true } : failure(`HTTP status ${statusCode}`));
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_BODY_BYTES) response.destroy();
      });
      response.on('error', () => {}); // cut off once the status is known
    };
    const tls = { rejectUnauthorized: false, servername: net.isIP(name) === 0 ? name : '' };
    const request = call.tls
      ? https.request({ ...options, ...tls, maxHeaderSize: MAX_HEADER_BYTES }, done)
      : http.request({ ...options, maxHeaderSize: MAX_HEADER_BYTES }, done);
    request.on('error', (error) => resolve(failure(causeOf(error))));
    request.end();
  });
}

function lookTcp(port: number, address: string, signal: AbortSignal): Promise<Outcome> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: address, port, signal });
    socket.on('connect', () => {
      resolve({ ok: true });
      socket.destroy();
    });
    socket.on('error', (error) => resolve(failure(causeOf(error))));
  });
}

/** grpc.health.v1.Health/Check; SERVING is 1. Source: gRPC, "Health checking protocol". */
const SERVING = 1;
const STATUS = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'] as const;

function lookGrpc(call: PortCall & { kind: 'grpc' }, address: string, signal: AbortSignal): Promise<Outcome> {
  const target = net.isIPv6(address) ? `ipv6:[${address}]:${call.port}` : `ipv4:${address}:${call.port}`;
  const client = new Client(target, credentials.createInsecure(), {
    'grpc.max_receive_message_length': 1024,
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
    'grpc.enable_retries': 0,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.primary_user_agent': 'mesh-agent-probe/1',
  });
  return new Promise<Outcome>((resolve) => {
    const asked = client.makeUnaryRequest(
      '/grpc.health.v1.Health/Check',
      (service: string) => healthRequest(service),
      (bytes: Buffer) => healthStatus(bytes),
      call.service,
      (error, status) => {
        if (error) resolve(failure(`gRPC status ${error.code}: ${error.details}`));
        else resolve(status === SERVING ? { ok: true } : failure(`gRPC health ${STATUS[status ?? 0] ?? status}`));
      },
    );
    signal.addEventListener('abort', () => asked.cancel(), { once: true });
  }).finally(() => client.close());
}

/** HealthCheckRequest: field 1, a string of at most 127 bytes (a longer one is no service's name). */
function healthRequest(service: string): Buffer {
  const name = Buffer.from(service).subarray(0, 127);
  return name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, name.length]), name]);
}

/** HealthCheckResponse (untrusted): field 1, a small enum; anything else is UNKNOWN. */
function healthStatus(bytes: Buffer): number {
  return bytes.length >= 2 && bytes[0] === 0x08 && (bytes[1] as number) < 0x80 ? (bytes[1] as number) : 0;
}

function causeOf(error: Error & { readonly code?: string }): string {
  return error.code === undefined || error.message.includes(error.code)
    ? error.message
    : `${error.code}: ${error.message}`;
}

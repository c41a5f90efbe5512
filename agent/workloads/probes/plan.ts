/** What one probe does, at which port, how often and what counts. Source: Istio, WorkloadGroup, ReadinessProbe; Kubernetes, "Configure Probes". */
export interface ProbePlan {
  readonly call: ProbeCall;
  readonly initialDelayMs: number;
  readonly periodMs: number;
  readonly timeoutMs: number;
  /** In a row, after a failure. */
  readonly successThreshold: number;
  /** In a row, after a success. */
  readonly failureThreshold: number;
}

/** What connects to a port of the workload. `loopback`: the address to connect to where the object says so; absent: the host's own, on which peers reach the workload. */
export type PortCall =
  | {
      readonly kind: 'http';
      readonly port: number;
      readonly loopback?: Loopback;
      readonly tls: boolean;
      readonly path: string;
      readonly headers: readonly (readonly [string, string])[];
    }
  | { readonly kind: 'tcp'; readonly port: number; readonly loopback?: Loopback }
  | { readonly kind: 'grpc'; readonly port: number; readonly loopback?: Loopback; readonly service: string };

/** Runs a program of the host as the workload's user. */
export interface ExecCall {
  readonly kind: 'exec';
  readonly command: readonly string[];
  /** After it the host ends the program. */
  readonly timeoutSeconds: number;
  /** The unit of systemd's that runs this very command; absent: agent.yaml does not list it (`listed` gives it). */
  readonly unit?: string;
}

export type ProbeCall = PortCall | ExecCall;

export type Loopback = '127.0.0.1' | '::1';

/** Kubernetes' defaults; 0 and nothing at all mean them. */
const DEFAULTS = { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 } as const;

/** Shape of `spec.probe` in verified config; a reader still meets `undefined` everywhere. */
export interface ProbeSpec {
  readonly initialDelaySeconds?: number;
  readonly timeoutSeconds?: number;
  readonly periodSeconds?: number;
  readonly successThreshold?: number;
  readonly failureThreshold?: number;
  readonly httpGet?: {
    readonly path?: string;
    readonly port: number;
    readonly host?: string;
    readonly scheme?: string;
    readonly httpHeaders?: readonly { readonly name?: string; readonly value?: string }[];
  };
  readonly tcpSocket?: { readonly host?: string; readonly port: number };
  readonly grpc?: { readonly port?: number; readonly service?: string };
  readonly exec?: { readonly command?: readonly string[] };
}

/** The plan of a WorkloadGroup's probe; undefined without one that this version knows. Pure. */
export function probePlan(spec: ProbeSpec | undefined): ProbePlan | undefined {
  const timeoutSeconds = spec?.timeoutSeconds || DEFAULTS.timeoutSeconds;
  const call = spec === undefined ? undefined : callOf(spec, timeoutSeconds);
  if (spec === undefined || call === undefined) return undefined;
  return {
    call,
    initialDelayMs: (spec.initialDelaySeconds ?? 0) * 1000,
    periodMs: (spec.periodSeconds || DEFAULTS.periodSeconds) * 1000,
    timeoutMs: timeoutSeconds * 1000,
    successThreshold: spec.successThreshold || DEFAULTS.successThreshold,
    failureThreshold: spec.failureThreshold || DEFAULTS.failureThreshold,
  };
}

function callOf({ httpGet, tcpSocket, grpc, exec }: ProbeSpec, timeoutSeconds: number): ProbeCall | undefined {
  if (httpGet !== undefined) {
    const { port, path = '/', scheme, httpHeaders, host } = httpGet;
    return {
      kind: 'http',
      port,
      ...loopback(host),
      tls: scheme?.toUpperCase() === 'HTTPS',
      path: path.startsWith('/') ? path : `/${path}`,
      headers: (httpHeaders ?? []).map(({ name = '', value = '' }) => [name, value] as const),
    };
  }
  if (tcpSocket !== undefined) return { kind: 'tcp', port: tcpSocket.port, ...loopback(tcpSocket.host) };
  if (grpc?.port !== undefined) return { kind: 'grpc', port: grpc.port, service: grpc.service ?? '' };
  if (exec?.command !== undefined && exec.command.length > 0)
    return { kind: 'exec', command: exec.command, timeoutSeconds };
  return undefined;
}

/** The plan with the unit that runs its command, if it is an exec probe and exactly one of these commands. Pure. */
export function listed(
  plan: ProbePlan,
  commands: readonly (readonly string[])[],
  unitOf: (command: readonly string[]) => string,
): ProbePlan {
  const { call } = plan;
  if (call.kind !== 'exec') return plan;
  const wanted = JSON.stringify(call.command);
  const found = commands.some((command) => JSON.stringify(command) === wanted);
  return found ? { ...plan, call: { ...call, unit: unitOf(call.command) } } : plan;
}

/** The controller refuses any other host: a probe must not become a way to reach something else from every host of a group. */
function loopback(host: string | undefined): { readonly loopback?: Loopback } {
  if (host === undefined || host === '') return {};
  return { loopback: host === '::1' ? '::1' : '127.0.0.1' };
}

/** A command as a person would write it into agent.yaml; a long one cut off. */
export function commandInWords(command: readonly string[], max = 400): string {
  const text = `[${command.map((word) => JSON.stringify(word)).join(', ')}]`;
  return text.length > max ? `${text.slice(0, max)}…` : text;
}

/** What the plan does, in words: `GET http://10.0.0.2:8080/healthz`. */
export function inWords(call: ProbeCall, address: string): string {
  if (call.kind === 'exec') return `exec ${commandInWords(call.command, 120)}`;
  const at = `${address.includes(':') ? `[${address}]` : address}:${call.port}`;
  if (call.kind === 'http') return `GET ${call.tls ? 'https' : 'http'}://${at}${call.path}`;
  return call.kind === 'tcp'
    ? `TCP ${at}`
    : `gRPC health of ${call.service === '' ? 'the server' : call.service} at ${at}`;
}

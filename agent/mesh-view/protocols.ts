import type { Protocol } from './view.ts';

const BY_NAME: Readonly<Record<string, Protocol>> = {
  http: 'HTTP',
  http2: 'HTTP2',
  grpc: 'HTTP2',
  'grpc-web': 'HTTP',
  https: 'TLS',
  tls: 'TLS',
  tcp: 'TCP',
  mongo: 'TCP',
  mysql: 'TCP',
  redis: 'TCP',
  'kubernetes.io/h2c': 'HTTP2',
  'kubernetes.io/ws': 'HTTP',
  'kubernetes.io/wss': 'TLS',
};

/** Ports whose servers speak first, or whose clients cannot be told from HTTP: never sniffed when nothing is declared (Istio's list). */
const SERVER_FIRST = new Set([25, 53, 3306, 27017]);

/**
 * Protocol of a port by what was declared: appProtocol or ServiceEntry's protocol first, then the port's name up to its first hyphen
 * (`grpc-web` whole). AUTO when nothing says. Source: Istio, "Explicit protocol selection".
 */
export function protocolOf(port: {
  readonly declared?: string;
  readonly name?: string;
  readonly number: number;
}): Protocol {
  const declared = port.declared?.toLowerCase();
  if (declared !== undefined && declared !== '') return BY_NAME[declared] ?? 'AUTO';
  const name = port.name?.toLowerCase() ?? '';
  const byName = name.startsWith('grpc-web') ? 'HTTP' : BY_NAME[name.split('-', 1)[0] as string];
  return byName ?? (SERVER_FIRST.has(port.number) ? 'TCP' : 'AUTO');
}

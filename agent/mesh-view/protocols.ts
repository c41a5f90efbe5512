import type { Protocol } from './view.ts';

const BY_NAME: Readonly<Record<string, Protocol>> = {
  http: 'HTTP',
  http2: 'HTTP2',
  grpc: 'HTTP2',
  'grpc-web': 'HTTP2',
  https: 'TLS',
  tls: 'TLS',
  tcp: 'TCP',
  mongo: 'TCP',
  mysql: 'TCP',
  redis: 'TCP',
};

/** Names that appProtocol alone may have. Source: Kubernetes, Service, "Application protocol". */
const STANDARD: Readonly<Record<string, Protocol>> = {
  'kubernetes.io/h2c': 'HTTP2',
  'kubernetes.io/ws': 'HTTP',
  'kubernetes.io/wss': 'TLS',
};

/** Ports whose servers speak first, or whose clients cannot be told from HTTP: never sniffed when nothing is declared (Istio's list). */
const SERVER_FIRST = new Set([25, 53, 3306, 27017]);

/** What was said of a port: appProtocol or ServiceEntry's protocol, the port's name, its number. */
export interface PortWords {
  readonly declared?: string;
  readonly name?: string;
  readonly number: number;
}

/**
 * Protocol of a port by what was declared: appProtocol or ServiceEntry's protocol where there is one, else the port's name; of either what
 * stands before the first hyphen (`grpc-web` whole). AUTO when that says nothing. Source: Istio, "Explicit protocol selection".
 */
export function protocolOf(port: PortWords): Protocol {
  const word = wordOf(port);
  const standard = port.declared === undefined ? undefined : STANDARD[word];
  return standard ?? BY_NAME[prefixOf(word)] ?? (SERVER_FIRST.has(port.number) ? 'TCP' : 'AUTO');
}

/** True for gRPC-Web: clients that speak gRPC inside HTTP/1.1, to be translated for a gRPC server. */
export function isGrpcWeb(port: PortWords): boolean {
  return prefixOf(wordOf(port)) === 'grpc-web';
}

function wordOf({ declared, name }: PortWords): string {
  return (declared === undefined || declared === '' ? (name ?? '') : declared).toLowerCase();
}

function prefixOf(word: string): string {
  return word.startsWith('grpc-web') ? 'grpc-web' : (word.split('-', 1)[0] as string);
}

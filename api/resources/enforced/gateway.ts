import { type KindEnforcement, spec } from './paths.ts';
import { SERVER_TLS } from './server-tls.ts';

const TLS = [
  ...SERVER_TLS,
  'httpsRedirect',
  'credentialName',
  'credentialNames[]',
  'caCertCredentialName',
  'subjectAltNames[]',
];

export const GATEWAY_KINDS: Readonly<Record<string, KindEnforcement>> = {
  Gateway: {
    fields: spec([
      'selector.*',
      'servers[].port.number',
      'servers[].port.name',
      'servers[].port.protocol',
      'servers[].bind',
      'servers[].hosts[]',
      'servers[].name',
      ...TLS.map((field) => `servers[].tls.${field}`),
    ]),
    refused: {
      'spec.servers[].port.targetPort':
        'has no impact on Gateways (Istio); a Service that selects the gateway maps ports',
      'spec.servers[].defaultEndpoint': "Istio's gateways do not implement it: lead the port on by a VirtualService",
      'spec.servers[].tls.tlsCertificates[].caCertificates': "clients are judged by the server's own caCertificates",
    },
  },
};

import { object } from '../../mesh-view/build-mesh.ts';
import type { Row } from './row.ts';

const retries = (more: object) => ({ defaultHttpRetryPolicy: { attempts: 3, ...more } });
const route = { destination: { host: 'reviews' } };

export const MESH_CONFIG_ROWS: readonly Row[] = [
  {
    kind: 'MeshConfig',
    name: 'default',
    base: {},
    beside: [
      object('ServiceEntry', 'dns', {
        hosts: ['x.example'],
        ports: [{ number: 443, name: 'tls', protocol: 'TLS' }],
        resolution: 'DNS',
      }),
      object('VirtualService', 'reviews', { hosts: ['reviews'], http: [{ route: [route], timeout: '3s' }] }),
      object(
        'DestinationRule',
        'far',
        { host: 'far.other.svc.cluster.local', trafficPolicy: { tls: { mode: 'DISABLE' } } },
        { namespace: 'other' },
      ),
      object('DestinationRule', 'failing', {
        host: 'reviews',
        trafficPolicy: { outlierDetection: { interval: '3s' } },
      }),
    ],
    changes: [
      { outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } },
      { accessLog: { enabled: false } },
      { accessLogFile: '' },
      { accessLogFormat: '%PROTOCOL%' },
      { accessLogEncoding: 'TEXT' },
      { accessLogEncoding: 'JSON', accessLogFormat: '{"p":"%PROTOCOL%"}' },
      { connectTimeout: '3s' },
      { tcpKeepalive: { probes: 3, time: '60s', interval: '10s' } },
      { dnsRefreshRate: '7s' },
      { protocolDetectionTimeout: '0s' },
      { enableAutoMtls: false },
      { h2UpgradePolicy: 'DO_NOT_UPGRADE' },
      { defaultServiceExportTo: ['.'] },
      { defaultVirtualServiceExportTo: ['~'] },
      { defaultDestinationRuleExportTo: ['.'] },
      retries({}),
      retries({ perTryTimeout: '3s' }),
      retries({ retryOn: '503' }),
      retries({ backoff: '3s' }),
      retries({ retryRemoteLocalities: true }),
      retries({ retryIgnorePreviousHosts: false }),
      { pathNormalization: { normalization: 'NONE' } },
      { meshMTLS: { minProtocolVersion: 'TLSV1_3' } },
      { defaultConfig: { concurrency: 2 } },
      { localityLbSetting: { enabled: false } },
      { localityLbSetting: { failover: [{ from: 'eu', to: 'us' }] } },
      { localityLbSetting: { failoverPriority: ['version=v0'] } },
      { localityLbSetting: { distribute: [{ from: '*', to: { '*': 100 } }] } },
    ],
  },
];

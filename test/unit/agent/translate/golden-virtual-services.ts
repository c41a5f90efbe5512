import type { TestMesh } from '../mesh-view/build-mesh.ts';
import { group, object, service } from '../mesh-view/build-mesh.ts';

const to = (host: string, subset?: string, weight?: number) => ({
  destination: { host, ...(subset === undefined ? {} : { subset }) },
  ...(weight === undefined ? {} : { weight }),
});

/** All of a VirtualService in one mesh: http rules of each kind with a delegate, tcp and tls rules, hosts of no service. */
const VIRTUAL_SERVICE: TestMesh = {
  hosts: [
    { id: 'a', addresses: ['10.0.0.1'], groups: ['default/web', 'default/other'] },
    { id: 'b', addresses: ['10.0.0.2'], groups: ['default/reviews'] },
  ],
  ipv6: false,
  objects: [
    group('web', {}),
    group('other', {}),
    group('reviews', { http: 9080, tcp: 5432 }, { labels: { version: 'v1' } }),
    service('reviews', [{ name: 'http', port: 80, targetPort: 9080 }]),
    service(
      'db',
      [
        { name: 'tcp', port: 5432 },
        { name: 'tls', port: 8443, targetPort: 5432 },
      ],
      { app: 'reviews' },
    ),
    object('DestinationRule', 'reviews', { host: 'reviews', subsets: [{ name: 'v1', labels: { version: 'v1' } }] }),
    object('ServiceEntry', 'wild', {
      hosts: ['*.wild.example'],
      ports: [
        { number: 443, name: 'tls', protocol: 'TLS' },
        { number: 80, name: 'http', protocol: 'HTTP' },
      ],
    }),
    object('VirtualService', 'all', {
      hosts: ['reviews', 'made.up', '*.made.up'],
      http: [
        {
          name: 'match',
          match: [
            {
              name: 'one',
              headers: { a: {}, b: { regex: 'x+' } },
              withoutHeaders: { c: { prefix: 'y' }, d: {} },
              statPrefix: 'critical',
            },
            {
              queryParams: { flag: { exact: '' }, id: { regex: '\\d+' }, any: {} },
              uri: { regex: '/r/.*' },
              ignoreUriCase: true,
            },
            {
              method: { exact: 'PUT' },
              scheme: { exact: 'http' },
              authority: { prefix: 'rev' },
              sourceLabels: { app: 'web' },
            },
          ],
          route: [to('reviews', 'v1', 3), to('reviews', undefined, 1), to('nowhere')],
          retries: {
            attempts: 2,
            retryOn: '5xx,409,reset',
            backoff: '10ms',
            perTryTimeout: '1s',
            retryRemoteLocalities: true,
          },
          rewrite: { uriRegexRewrite: { match: '^/(a)/(b)', rewrite: '/\\2/\\1' }, authority: 'inner' },
        },
        {
          match: [{ uri: { prefix: '/move' } }],
          redirect: { uri: '%PREFIX()%/to', scheme: 'https', derivePort: 'FROM_REQUEST_PORT', redirectCode: 307 },
        },
        {
          match: [{ uri: { prefix: '/answer' } }],
          directResponse: { status: 503, body: { string: 'no' } },
          headers: { response: { set: { a: '%PROTOCOL%' } } },
        },
        { match: [{ uri: { prefix: '/shop' } }], delegate: { name: 'd', namespace: 'shop' }, timeout: '3s' },
        {
          corsPolicy: {
            allowOrigins: [{ regex: '.*' }, { prefix: 'https://' }],
            unmatchedPreflights: 'IGNORE',
            maxAge: '1m',
          },
          fault: { abort: { grpcStatus: 'UNAVAILABLE', percentage: { value: 0.5 } }, delay: { fixedDelay: '1s' } },
          mirrors: [
            { destination: { host: 'reviews', subset: 'v1' }, percentage: { value: 10 } },
            { destination: { host: 'nowhere' } },
          ],
          headers: { request: { add: { Host: 'h', b: '' }, remove: ['c'] } },
          route: [to('reviews', 'v1')],
        },
      ],
    }),
    object(
      'VirtualService',
      'd',
      {
        http: [
          { match: [{ uri: { prefix: '/shop/a' } }], route: [to('cart')], timeout: '1s' },
          { route: [to('reviews.default.svc.cluster.local')] },
        ],
      },
      { namespace: 'shop' },
    ),
    object('VirtualService', 'db', {
      hosts: ['db'],
      tcp: [
        { match: [{ port: 5432, destinationSubnets: ['fd00::/8'] }], route: [to('reviews')] },
        { route: [to('db', undefined, 1), to('reviews', undefined, 3)] },
      ],
      tls: [{ match: [{ sniHosts: ['db'] }], route: [to('db')] }],
    }),
    object('VirtualService', 'wild', {
      hosts: ['one.wild.example'],
      http: [{ directResponse: { status: 404 } }],
      tls: [{ match: [{ sniHosts: ['one.wild.example'] }], route: [to('db')] }],
    }),
  ],
};

/** By the name of the file in test/golden/translate. */
export const VIRTUAL_SERVICE_CASES: Readonly<Record<string, TestMesh>> = { 'virtual-service': VIRTUAL_SERVICE };

import { object } from '../../mesh-view/build-mesh.ts';
import type { Row } from './row.ts';

const route = { destination: { host: 'reviews' } };
const http = (...rules: object[]) => ({ http: rules });
const one = (more: object) => http({ route: [route], ...more });
const vsMatch = (more: object) => http({ match: [more], route: [route] });
const l4 = (match: object) => ({ match: [match], route: [{ destination: { host: 'web' } }] });
const strings = ['exact', 'prefix', 'regex'];

export const VIRTUAL_SERVICE_ROWS: readonly Row[] = [
  {
    kind: 'VirtualService',
    name: 'extra',
    base: { hosts: ['reviews'], ...one({ timeout: '7s' }) },
    beside: [
      object('VirtualService', 'd', one({ timeout: '11s' })),
      object('VirtualService', 'd', one({ timeout: '12s' }), { namespace: 'other' }),
    ],
    exclusions: [
      { exportTo: ['other'] },
      vsMatch({ port: 81 }),
      vsMatch({ sourceLabels: { app: 'nobody' } }),
      vsMatch({ sourceNamespace: 'other' }),
      { hosts: ['db'], http: undefined, tcp: [l4({ port: 1 })] },
      { hosts: ['db'], http: undefined, tls: [l4({ port: 1, sniHosts: ['s.example'] })] },
      {
        hosts: ['db'],
        http: undefined,
        tcp: [l4({ sourceNamespace: 'other' })],
        tls: [l4({ sourceNamespace: 'other', sniHosts: ['s.example'] })],
      },
    ],
    changes: [
      { hosts: ['web'], ...one({ timeout: '1s' }) },
      { gateways: ['mesh'], ...one({ name: 'n', timeout: '1s' }) },
      ...['uri', 'scheme', 'method', 'authority'].flatMap((part) =>
        strings.map((how) => vsMatch({ [part]: { [how]: '/x' } })),
      ),
      ...['headers', 'withoutHeaders', 'queryParams'].flatMap((part) =>
        strings.map((how) => vsMatch({ [part]: { k: { [how]: 'x' } } })),
      ),
      http({ name: 'r', match: [{ name: 'm', uri: { prefix: '/x' }, ignoreUriCase: true }], route: [route] }),
      vsMatch({ gateways: ['mesh'], uri: { prefix: '/y' } }),
      vsMatch({ uri: { prefix: '/z' }, statPrefix: 's' }),
      http({ delegate: { name: 'd', namespace: 'other' } }),
      http({
        route: [
          { destination: { host: 'db', subset: 's', port: { number: 8443 } }, weight: 1, headers: ops() },
          { ...route, weight: 2 },
        ],
      }),
      one({ headers: ops() }),
      http({ redirect: { uri: '/r', authority: 'a', scheme: 'https', port: 444, redirectCode: 302 } }),
      http({ redirect: { scheme: 'https', derivePort: 'FROM_REQUEST_PORT' } }),
      http({ directResponse: { status: 200, body: { string: 's' } } }),
      http({ directResponse: { status: 200, body: { bytes: 'cw==' } } }),
      one({ rewrite: { uri: '/w', authority: 'w' } }),
      one({ rewrite: { uriRegexRewrite: { match: '/a', rewrite: '/b' } } }),
      one({ timeout: '2s' }),
      one({
        retries: {
          attempts: 4,
          perTryTimeout: '1s',
          retryOn: '503',
          backoff: '1s',
          retryIgnorePreviousHosts: false,
          retryRemoteLocalities: true,
        },
      }),
      one({ fault: { delay: { fixedDelay: '1s', percent: 5 } } }),
      one({ fault: { delay: { fixedDelay: '1s', percentage: { value: 5 } } } }),
      one({ fault: { abort: { httpStatus: 500, percentage: { value: 5 } } } }),
      one({ fault: { abort: { grpcStatus: 'UNAVAILABLE' } } }),
      one({ mirror: { host: 'db', subset: 's', port: { number: 8443 } }, mirrorPercentage: { value: 5 } }),
      one({ mirror: { host: 'web' }, mirrorPercent: 6 }),
      one({ mirror: { host: 'web' }, mirror_percent: 7 }),
      one({
        mirrors: [{ destination: { host: 'db', subset: 's', port: { number: 8443 } }, percentage: { value: 5 } }],
      }),
      ...strings.map((how) => one({ corsPolicy: { allowOrigins: [{ [how]: 'o' }] } })),
      one({
        corsPolicy: {
          allowOrigin: ['o'],
          allowMethods: ['GET'],
          allowHeaders: ['h'],
          exposeHeaders: ['e'],
          maxAge: '5s',
          allowCredentials: true,
          unmatchedPreflights: 'IGNORE',
        },
      }),
      {
        hosts: ['db'],
        http: undefined,
        tcp: [
          {
            match: [{ gateways: ['mesh'] }],
            route: [
              { destination: { host: 'db', port: { number: 8443 }, subset: 's' }, weight: 1 },
              { destination: { host: 'reviews' }, weight: 2 },
            ],
          },
        ],
      },
      {
        hosts: ['db'],
        http: undefined,
        tcp: [
          {
            match: [{ destinationSubnets: ['240.240.0.0/16'], sourceLabels: { app: 'web' } }],
            route: [route],
          },
        ],
      },
      {
        hosts: ['db'],
        http: undefined,
        tls: [
          {
            match: [{ sniHosts: ['s.example'], gateways: ['mesh'] }],
            route: [
              { destination: { host: 'db', port: { number: 8443 }, subset: 's' }, weight: 1 },
              { destination: { host: 'reviews' }, weight: 2 },
            ],
          },
        ],
      },
      {
        hosts: ['db'],
        http: undefined,
        tls: [
          {
            match: [
              {
                sniHosts: ['s.example'],
                destinationSubnets: ['240.240.0.0/16'],
                sourceLabels: { app: 'web' },
              },
            ],
            route: [route],
          },
        ],
      },
    ],
  },
];

function ops(): object {
  const each = { set: { s: '1' }, add: { a: '2' }, remove: ['r'] };
  return { request: each, response: each };
}

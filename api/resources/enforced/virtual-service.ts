import { both, type KindEnforcement, match, spec } from './paths.ts';

const HEADER_OPERATIONS = both(['request', 'response'], ['set.*', 'add.*', 'remove[]']);
const DESTINATION = ['host', 'subset', 'port.number'];

const HTTP_MATCH = [
  'name',
  ...match('uri'),
  ...match('scheme'),
  ...match('method'),
  ...match('authority'),
  ...match('headers.*'),
  ...match('withoutHeaders.*'),
  ...match('queryParams.*'),
  'ignoreUriCase',
  'port',
  'sourceLabels.*',
  'sourceNamespace',
  'gateways[]',
  'statPrefix',
];

const HTTP_ROUTE = [
  'name',
  'delegate.name',
  'delegate.namespace',
  ...both(['match[]'], HTTP_MATCH),
  ...both(['route[].destination'], DESTINATION),
  'route[].weight',
  ...both(['route[].headers', 'headers'], HEADER_OPERATIONS),
  'redirect.uri',
  'redirect.authority',
  'redirect.scheme',
  'redirect.port',
  'redirect.derivePort',
  'redirect.redirectCode',
  'directResponse.status',
  'directResponse.body.string',
  'directResponse.body.bytes',
  'rewrite.uri',
  'rewrite.authority',
  'rewrite.uriRegexRewrite.match',
  'rewrite.uriRegexRewrite.rewrite',
  'timeout',
  'retries.attempts',
  'retries.perTryTimeout',
  'retries.retryOn',
  'retries.backoff',
  'retries.retryIgnorePreviousHosts',
  'retries.retryRemoteLocalities',
  'fault.delay.fixedDelay',
  'fault.delay.percent',
  'fault.delay.percentage.value',
  'fault.abort.httpStatus',
  'fault.abort.grpcStatus',
  'fault.abort.percentage.value',
  ...both(['mirror', 'mirrors[].destination'], DESTINATION),
  'mirrorPercentage.value',
  'mirrorPercent',
  'mirror_percent',
  'mirrors[].percentage.value',
  ...match('corsPolicy.allowOrigins[]'),
  'corsPolicy.allowOrigin[]',
  'corsPolicy.allowMethods[]',
  'corsPolicy.allowHeaders[]',
  'corsPolicy.exposeHeaders[]',
  'corsPolicy.maxAge',
  'corsPolicy.allowCredentials',
  'corsPolicy.unmatchedPreflights',
];

const L4_MATCH = ['destinationSubnets[]', 'port', 'sourceLabels.*', 'sourceNamespace', 'gateways[]'];
const L4_ROUTE = [...both(['route[].destination'], DESTINATION), 'route[].weight'];

const VIRTUAL_SERVICE = [
  'hosts[]',
  'gateways[]',
  'exportTo[]',
  ...both(['http[]'], HTTP_ROUTE),
  ...both(['tcp[].match[]', 'tls[].match[]'], L4_MATCH),
  'tls[].match[].sniHosts[]',
  ...both(['tcp[]', 'tls[]'], L4_ROUTE),
];

export const VIRTUAL_SERVICE_KINDS: Readonly<Record<string, KindEnforcement>> = {
  VirtualService: {
    fields: spec(VIRTUAL_SERVICE),
    refused: {
      'spec.http[].fault.abort.http2Error': 'Envoy cannot abort a request with an HTTP/2 error; Istio refuses it too',
      'spec.http[].fault.delay.exponentialDelay': 'Envoy delays by a fixed time only; Istio refuses it too',
      'spec.tcp[].match[].sourceSubnet':
        'Istio neither documents nor evaluates it; sourceLabels and sourceNamespace say whose connections are meant',
    },
  },
};

import type { CorsSpec, HttpRoute } from '../mesh-view/specs/virtual-service.ts';
import { any, compact, duration, fractionalPercent, type JsonObject } from './json.ts';
import { some } from './route-headers.ts';
import { stringMatch } from './route-match.ts';

/** What a rule asks of the fault and CORS filters. */
export function perFilter(rule: HttpRoute): JsonObject {
  const config = compact({
    'envoy.filters.http.fault': fault(rule.fault),
    'envoy.filters.http.cors': rule.corsPolicy === undefined ? undefined : cors(rule.corsPolicy),
  });
  return Object.keys(config).length === 0 ? {} : { typed_per_filter_config: config };
}

const GRPC_CODES = [
  ...['OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS'],
  ...['PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED'],
  ...['INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED'],
];

/** Istio: without a percentage no request is delayed or aborted. */
function fault(spec: HttpRoute['fault']): JsonObject | undefined {
  if (spec === undefined) return undefined;
  const { delay, abort } = spec;
  const grpc = GRPC_CODES.indexOf(abort?.grpcStatus ?? '');
  const status = grpc >= 0 ? { grpc_status: grpc } : { http_status: abort?.httpStatus };
  const idle = abort === undefined || (grpc < 0 && abort.httpStatus === undefined);
  const body = compact({
    delay:
      delay?.fixedDelay === undefined
        ? undefined
        : {
            fixed_delay: duration(delay.fixedDelay),
            percentage: fractionalPercent(
              delay.percentage === undefined ? (delay.percent ?? 0) : (delay.percentage.value ?? 0),
            ),
          },
    abort: idle ? undefined : { ...status, percentage: fractionalPercent(abort.percentage?.value ?? 0) },
  });
  return Object.keys(body).length === 0 ? undefined : any('envoy.extensions.filters.http.fault.v3.HTTPFault', body);
}

function cors(spec: CorsSpec): JsonObject {
  const list = (values: readonly string[] | undefined) =>
    values === undefined || values.length === 0 ? undefined : values.join(',');
  const age = duration(spec.maxAge);
  return any(
    'envoy.extensions.filters.http.cors.v3.CorsPolicy',
    compact({
      allow_origin_string_match: some(origins(spec)),
      allow_methods: list(spec.allowMethods),
      allow_headers: list(spec.allowHeaders),
      expose_headers: list(spec.exposeHeaders),
      max_age: age === undefined ? undefined : String(Math.floor(Number(age.slice(0, -1)))),
      allow_credentials: spec.allowCredentials,
      forward_not_matching_preflights: spec.unmatchedPreflights === 'IGNORE' ? false : undefined,
      filter_enabled: { default_value: { numerator: 100, denominator: 'HUNDRED' } },
    }),
  );
}

/** `allowOrigins`; the older `allowOrigin`, names or `*`, only without it. */
function origins({ allowOrigins, allowOrigin }: CorsSpec): JsonObject[] {
  if (allowOrigins === undefined) return (allowOrigin ?? []).map((exact) => (exact === '*' ? ANY_ORIGIN : { exact }));
  return allowOrigins.map((origin) => stringMatch(origin) ?? ANY_ORIGIN);
}

const ANY_ORIGIN: JsonObject = { safe_regex: { regex: '.*' } };

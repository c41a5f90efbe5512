import { at, type Body, listOf, maybe, numberOf, textOf } from './envoy-json.ts';
import { percentOf } from './route.ts';

const FAULT = 'envoy.filters.http.fault';

/** What fault injection of a route does; `always`: to every request. */
export function faultOf(route: Body): { readonly words: string; readonly always: boolean } | undefined {
  const fault = maybe(route, 'typed_per_filter_config', FAULT);
  if (fault === undefined) return undefined;
  const abort = maybe(fault, 'abort');
  const delay = maybe(fault, 'delay');
  const share = abort === undefined ? 0 : percentOf(at(abort, 'percentage'));
  const parts = [
    ...(abort === undefined ? [] : [`answers ${statusOf(abort)} to ${share} %`]),
    ...(delay === undefined
      ? []
      : [`delays ${percentOf(at(delay, 'percentage'))} % by ${textOf(delay, 'fixed_delay')}`]),
  ];
  return { words: parts.join(', '), always: share >= 100 };
}

function statusOf(abort: Body): string {
  const grpc = numberOf(abort, 'grpc_status');
  return grpc === undefined ? String(numberOf(abort, 'http_status') ?? '') : `gRPC status ${grpc}`;
}

/** What a route does to a request besides leading it on, one line each. */
export function routeDetails(route: Body): string[] {
  const action = at(route, 'route');
  const retry = maybe(action, 'retry_policy');
  const fault = faultOf(route);
  const timeout = textOf(action, 'timeout');
  const rewrite = textOf(action, 'prefix_rewrite') || textOf(at(action, 'regex_rewrite'), 'substitution');
  const lines = [
    ...(fault === undefined || fault.always ? [] : [`fault injection ${fault.words}`]),
    ...(timeout === '' || timeout === '0s' ? [] : [`timeout ${timeout}`]),
    ...(rewrite === '' ? [] : [`the path is rewritten: ${rewrite}`]),
    ...(textOf(action, 'host_rewrite_literal') === ''
      ? []
      : [`the authority is rewritten: ${textOf(action, 'host_rewrite_literal')}`]),
    ...listOf(action, 'request_mirror_policies').map(
      (mirror) => `mirrored to ${textOf(mirror, 'cluster')}${mirrorShare(mirror)}`,
    ),
  ];
  if (retry !== undefined)
    lines.push(`retried ${numberOf(retry, 'num_retries') ?? 1} times on ${textOf(retry, 'retry_on')}`);
  return lines;
}

function mirrorShare(mirror: Body): string {
  const fraction = maybe(mirror, 'runtime_fraction', 'default_value');
  return fraction === undefined ? '' : ` (${percentOf(fraction)} %)`;
}

import type { HttpCall } from '../../api/http/host-query.ts';
import { at, type Body, listOf, maybe, numberOf, textOf } from './envoy-json.ts';
import { all, headerMatches, inRange, not, some, stringMatches, type Truth } from './matchers.ts';
import { headerOf } from './route.ts';

/** A call as a policy sees it, where its host takes it in. */
export interface Incoming {
  /** Port of the application. */
  readonly port: number;
  readonly address?: string;
  readonly source?: string;
  /** SPIFFE ID out of the client's certificate; absent: no certificate. */
  readonly peer?: string;
  readonly serverName?: string;
  /** Absent: bytes. */
  readonly http?: HttpCall;
}

export interface Judgement {
  /** True: goes on. Undefined: depends on what cannot be known. */
  readonly admitted: Truth;
  readonly action: 'ALLOW' | 'DENY' | 'LOG';
  /** The policy that decided; absent: none matched. */
  readonly policy?: string;
}

/** What a role-based access filter (http and network, envoy.config.rbac.v3.RBAC) says to a call; undefined: it has no rules. */
export function judge(filter: Body, caller: Incoming): Judgement | undefined {
  const rules = maybe(filter, 'rules');
  if (rules === undefined) return 'matcher' in filter ? { admitted: undefined, action: 'ALLOW' } : undefined;
  const action = (textOf(rules, 'action') || 'ALLOW') as Judgement['action'];
  let unknown: string | undefined;
  for (const [name, policy] of Object.entries(at(rules, 'policies')).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const truth = policyMatches(policy as Body, caller);
    if (truth === true) return { admitted: action !== 'DENY', action, policy: name };
    if (truth === undefined) unknown ??= name;
  }
  if (action === 'LOG') return { admitted: true, action };
  if (unknown !== undefined) return { admitted: undefined, action, policy: unknown };
  return { admitted: action === 'DENY', action };
}

function policyMatches(policy: Body, caller: Incoming): Truth {
  return all([
    some(listOf(policy, 'permissions').map((one) => permits(one, caller))),
    some(listOf(policy, 'principals').map((one) => isPrincipal(one, caller))),
    'condition' in policy ? undefined : true,
  ]);
}

/** config.rbac.v3.Permission. */
function permits(permission: Body, caller: Incoming): Truth {
  const [[kind = '', value] = []] = Object.entries(permission);
  const body = at(permission, kind);
  const recur = (one: Body) => permits(one, caller);
  switch (kind) {
    case 'any':
      return value === true;
    case 'and_rules':
      return all(listOf(body, 'rules').map(recur));
    case 'or_rules':
      return some(listOf(body, 'rules').map(recur));
    case 'not_rule':
      return not(recur(body));
    case 'header':
      return headerTruth(body, caller);
    case 'url_path':
      return caller.http === undefined ? false : pathTruth(body, caller.http);
    case 'destination_port':
      return value === caller.port;
    case 'destination_port_range':
      return caller.port >= (numberOf(body, 'start') ?? 0) && caller.port < (numberOf(body, 'end') ?? 0);
    case 'destination_ip':
      return caller.address === undefined ? undefined : inRange(body, caller.address);
    case 'requested_server_name':
      return stringMatches(body, caller.serverName ?? '');
    default:
      return undefined;
  }
}

/** config.rbac.v3.Principal. */
function isPrincipal(principal: Body, caller: Incoming): Truth {
  const [[kind = '', value] = []] = Object.entries(principal);
  const body = at(principal, kind);
  const recur = (one: Body) => isPrincipal(one, caller);
  switch (kind) {
    case 'any':
      return value === true;
    case 'and_ids':
      return all(listOf(body, 'ids').map(recur));
    case 'or_ids':
      return some(listOf(body, 'ids').map(recur));
    case 'not_id':
      return not(recur(body));
    case 'authenticated':
      return authenticated(maybe(body, 'principal_name'), caller);
    case 'custom':
      return sanMatches(at(body, 'typed_config'), caller);
    case 'source_ip':
    case 'direct_remote_ip':
    case 'remote_ip':
      return caller.source === undefined ? undefined : inRange(body, caller.source);
    case 'header':
      return headerTruth(body, caller);
    case 'url_path':
      return caller.http === undefined ? false : pathTruth(body, caller.http);
    default:
      return undefined;
  }
}

function authenticated(name: Body | undefined, { peer }: Incoming): Truth {
  if (peer === undefined) return false;
  return name === undefined ? true : stringMatches(name, peer);
}

/** A principal by a name in the client's certificate. DNS names say the host, which the question does not. */
function sanMatches(config: Body, { peer }: Incoming): Truth {
  const san = maybe(config, 'san_matcher');
  if (peer === undefined) return false;
  if (san === undefined) return config.any_validated_client_certificate === undefined ? undefined : true;
  return textOf(san, 'san_type') === 'URI' ? stringMatches(at(san, 'matcher'), peer) : undefined;
}

function headerTruth(matcher: Body, { http }: Incoming): Truth {
  return http === undefined ? false : headerMatches(matcher, headerOf(http, textOf(matcher, 'name')));
}

function pathTruth(matcher: Body, http: HttpCall): Truth {
  return stringMatches(at(matcher, 'path'), http.path.replace(/[?#].*$/, ''));
}

/**
 * Looking into a host (docs/decisions/0014): who may, how often, and the audit line, then the question goes to the host. In: authenticated calls.
 * Out: the host's answer. Must never: hold up writes while a host is waited for.
 */

import {
  HOST_QUERY_LIMITS,
  type HostAnswer,
  type HostQuery,
  isChange,
  parseHostQuery,
} from '../../api/http/host-query.ts';
import { type Host, OPERATOR_API } from '../../api/http/operator-api.ts';
import { failure, forbidden, notFound, tooManyRequests } from '../../api/http/status-errors.ts';
import { objectBody } from './bodies.ts';
import { type Answer, type Call, ok } from './call.ts';
import { refuse } from './errors.ts';
import type { createFailureLimit } from './failure-limit.ts';
import type { OperatorDeps } from './operator.ts';
import type { Principal } from './principals.ts';

/** Takes a question to a host. */
export interface HostRelay {
  /** Rejects with HOST_SILENT, HOST_BUSY, HOST_FAILED. */
  ask(host: string, query: HostQuery): Promise<HostAnswer>;
}

export interface LookDeps extends OperatorDeps {
  readonly questions: HostRelay;
  /** By principal. */
  readonly questionLimit: ReturnType<typeof createFailureLimit>;
}

const SUBJECT = { group: OPERATOR_API.group, plural: 'hosts' };

/** POST hosts/NAME/look. */
export async function lookIntoHost(deps: LookDeps, call: Call, name: string): Promise<Answer> {
  const { principal } = call;
  if (deps.questionLimit.failed(principal.name, deps.clock.monotonic())) refuse(tooManyRequests(1));
  if (call.body.length > HOST_QUERY_LIMITS.queryBytes)
    refuse(failure('RequestEntityTooLarge', `a question has at most ${HOST_QUERY_LIMITS.queryBytes} bytes`));
  const query = parseHostQuery(objectBody(call));
  const host = (await deps.hosts.list()).find((one) => one.metadata.name === name);
  const why = refusalOf(principal, host, isChange(query) ? 'update' : 'get');
  if (why !== undefined) refuse(forbidden({ ...SUBJECT, name: name.slice(0, 63) }, why));
  if (host === undefined) return refuse(notFound({ ...SUBJECT, name: name.slice(0, 63) }));
  // Who asks stands in the audit log before the question leaves; the answer is not waited for in the writers' turn.
  await deps.journal.audited(call, verbOf(query), [`Host//${name}`], async () => {});
  return { ...ok(await deps.questions.ask(name, query)), headers: { 'cache-control': 'no-store' } };
}

function verbOf(query: HostQuery): string {
  if (query.ask === 'config') return `look:${query.part}`;
  return isChange(query) ? 'set:envoy-log' : `look:${query.ask}`;
}

/** A host's Envoy shows what all its workloads see and may do: one has to answer for each of them. */
function refusalOf(principal: Principal, host: Host | undefined, verb: 'get' | 'update'): string | undefined {
  const no = `User "${principal.name}" cannot look into this host`;
  if (principal.verbs !== undefined && !principal.verbs.includes(verb)) return `${no}: it lacks the verb ${verb}`;
  if (principal.role === 'admin') return undefined;
  const groups = host?.spec.workloadGroups ?? [];
  const foreign = groups.some((group) => !principal.namespaces.includes(group.split('/')[0] ?? ''));
  return groups.length === 0 || foreign
    ? `${no}: every WorkloadGroup that it may serve has to be in your namespaces`
    : undefined;
}

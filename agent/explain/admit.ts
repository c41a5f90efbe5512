/** What one host's Envoy does with a connection that a peer makes to a port of its workload: chain, mTLS, policies. */
import type { AdmitQuery, Step, Trace } from '../../api/http/host-query.ts';
import { type Connection, chainWords, findChain, lastFilter } from './chain.ts';
import { at, type Body, listOf, maybe, textOf } from './envoy-json.ts';
import { type Incoming, judge } from './rbac.ts';
import { byObjects, stepOf, type WhySources, words } from './sources.ts';

/** What proxies of the mesh offer by ALPN; the best first. */
export interface MeshProtocols {
  readonly http: readonly string[];
  readonly bytes: readonly string[];
}

const LISTENER = 'inbound';

export async function admit(
  query: AdmitQuery,
  sources: Pick<WhySources, 'envoy' | 'served'>,
  protocols: MeshProtocols,
): Promise<Trace> {
  const listener = await sources.envoy.listener(LISTENER);
  const served = sources.served('listener', LISTENER);
  const steps: Step[] = [];
  if (listener?.body === undefined)
    return {
      steps: [stepOf('inbound', 'stop', 'Envoy takes nothing in: no workload of this host has a port')],
      targets: [],
    };
  const found = findChain(listener.body, connectionOf(query, protocols));
  if (found === undefined) {
    const why =
      query.peer === undefined
        ? 'plaintext is not taken (STRICT), or nobody serves the port'
        : 'nobody serves the port by mTLS';
    return {
      steps: [
        stepOf('inbound', 'stop', `port ${query.port}: no filter chain takes it: ${why}`, byObjects(served.origins)),
      ],
      targets: [],
    };
  }
  const mtls = maybe(found.chain, 'transport_socket') !== undefined;
  const details = [`matches ${chainWords(found.chain)}`, ...words(listener.refused ?? served.refused)];
  steps.push(
    stepOf('inbound', 'ok', `chain ${found.name}, ${mtls ? 'mTLS' : 'plaintext'}`, byObjects(served.origins), details),
  );
  steps.push(...(await policySteps(query, found.chain, sources)));
  return { steps, targets: [] };
}

function connectionOf({ port, peer, source, http }: AdmitQuery, protocols: MeshProtocols): Connection {
  const from = source === undefined ? {} : { source };
  if (peer === undefined) return { port, tls: false, protocols: http === undefined ? [] : ['http/1.1'], ...from };
  return { port, tls: true, protocols: http === undefined ? protocols.bytes : protocols.http, ...from };
}

/** Every filter that may refuse, in order, up to the one that does. */
async function policySteps(
  query: AdmitQuery,
  chain: Body,
  sources: Pick<WhySources, 'envoy' | 'served'>,
): Promise<Step[]> {
  const last = lastFilter(chain);
  const filters = last?.kind === 'http' ? listOf(last.config, 'http_filters') : listOf(chain, 'filters');
  const caller: Incoming = {
    port: query.port,
    ...(query.peer === undefined ? {} : { peer: query.peer }),
    ...(query.source === undefined ? {} : { source: query.source }),
    ...(query.http === undefined || last?.kind !== 'http' ? {} : { http: query.http }),
  };
  const steps: Step[] = [];
  let judged = 0;
  for (const filter of filters) {
    const name = textOf(filter, 'name');
    const discovered = maybe(filter, 'config_discovery') !== undefined;
    const config = discovered ? at(await sources.envoy.extension(name), 'typed_config') : at(filter, 'typed_config');
    const type = textOf(config, '@type');
    if (type.endsWith('.JwtAuthentication'))
      steps.push(
        stepOf(
          'policy',
          'unsure',
          'a token (JWT) is asked for where the policy says so',
          byObjects(sources.served('extension', name).origins),
        ),
      );
    if (!type.endsWith('.RBAC')) continue;
    const verdict = judge(config, caller);
    if (verdict === undefined) continue;
    judged++;
    if (verdict.admitted === true) continue;
    const by = byObjects(sources.served('extension', name).origins);
    const policy =
      verdict.policy === undefined
        ? 'no ALLOW policy has a rule for it'
        : `policy ${verdict.policy} (${verdict.action})`;
    if (verdict.admitted === undefined)
      steps.push(stepOf('policy', 'unsure', `${policy} decides by what cannot be known here`, by));
    else
      return [
        ...steps,
        stepOf(
          'policy',
          'stop',
          `refused: ${policy}: ${query.http === undefined ? 'the connection is closed' : '403'}`,
          by,
        ),
      ];
  }
  if (steps.length > 0) return steps;
  return [stepOf('policy', 'ok', judged === 0 ? 'no policy restricts it' : 'admitted by the policies')];
}

import { X509Certificate } from 'node:crypto';
import { type Host, type MeshStatus, OPERATOR_API } from '../api/http/operator-api.ts';
import type { ReplicaAnchor } from '../api/signed-config/desired-config.ts';
import type { TrustedState } from '../api/signed-config/verifier.ts';
import { VERSION } from '../api/version.ts';
import { SILENT_AFTER_MS } from './reports.ts';

/** What `GET status` is made of, at one moment. */
export interface MeshStatusSources {
  readonly replica: string;
  readonly trustDomain: string;
  readonly startedAt: number;
  readonly now: number;
  readonly revision: number;
  /** Objects of operators. */
  readonly objects: number;
  readonly signed: TrustedState | undefined;
  readonly signingProblems: readonly string[];
  readonly anchors: readonly ReplicaAnchor[];
  readonly hosts: readonly Host[];
  /** True when root keys lie on this controller. */
  readonly rootKeysHere: boolean;
}

const DAY_MS = 86_400_000;
/** What is signed by hand takes a meeting; a CA takes a plan. */
const ALARM_BEFORE_MS = 180 * DAY_MS;

/** The mesh as this controller sees it. Pure. */
export function meshStatus(from: MeshStatusSources): MeshStatus {
  const { signed, hosts, now } = from;
  const generation = signed?.accepted?.generation ?? 0;
  const members = hosts.filter((host) => !host.spec.revoked);
  const heard = members.filter(
    ({ status }) => status !== undefined && now - Date.parse(status.reportedAt) < SILENT_AFTER_MS,
  );
  const root = signed?.root.metadata.signed.roles.root;
  const expires = signed?.timestamp?.metadata.signed.expires;
  return {
    apiVersion: OPERATOR_API.groupVersion,
    kind: 'MeshStatus',
    version: VERSION,
    trustDomain: from.trustDomain,
    revision: from.revision,
    generation,
    controllers: from.anchors.map((anchor) => controllerOf(from, anchor)),
    hosts: {
      total: members.length,
      reporting: heard.length,
      current: heard.filter((host) => host.status?.ackedGeneration === generation).length,
      revoked: hosts.length - members.length,
    },
    objects: from.objects,
    rootKeys: {
      total: root?.keyIDs.length ?? 0,
      threshold: root?.threshold ?? 0,
      keptOnController: from.rootKeysHere,
    },
    ...(expires === undefined ? {} : { timestampExpires: expires }),
    problems: [...from.signingProblems, ...expiryProblems(from)],
  };
}

function controllerOf(
  { replica, startedAt }: MeshStatusSources,
  anchor: ReplicaAnchor,
): MeshStatus['controllers'][number] {
  const self = anchor.replica === replica;
  return {
    name: anchor.replica,
    url: anchor.agentUrls[0] ?? '',
    self,
    reachable: self,
    ...(self ? { startedAt: new Date(startedAt).toISOString() } : {}),
  };
}

/** One line for each long-lived thing that ends soon. */
function expiryProblems({ signed, anchors, now }: MeshStatusSources): string[] {
  const ends: [what: string, end: number, cure: string][] = anchors.map((anchor) => [
    `the CA of controller ${anchor.replica}`,
    new X509Certificate(anchor.intermediatePem).validToDate.getTime(),
    'make a new one, or hosts lose their SVIDs',
  ]);
  if (signed !== undefined)
    ends.push([
      'the TUF root',
      Date.parse(signed.root.metadata.signed.expires ?? ''),
      'sign a new one with the root keys, or hosts accept no config afterwards',
    ]);
  return ends
    .filter(([, end]) => end - now < ALARM_BEFORE_MS)
    .map(([what, end, cure]) => `${what} expires at ${new Date(end).toISOString()}: ${cure}`);
}

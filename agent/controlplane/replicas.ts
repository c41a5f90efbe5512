import type { ReplicaAnchor } from '../../api/signed-config/desired-config.ts';

/**
 * The controllers as a host can reach them: one list of base URLs each, never empty. A controller with several addresses is one, or it would
 * be told everything, and asked to hold a request, once for each of them. URLs of agent.yaml that signed config does not list stand alone.
 */
export function replicasOf(
  written: readonly string[],
  anchors: Iterable<Pick<ReplicaAnchor, 'agentUrls'>>,
): readonly (readonly string[])[] {
  const listed = [...anchors].map((anchor) => anchor.agentUrls).filter((urls) => urls.length > 0);
  const known = new Set(listed.flat());
  return [...listed, ...[...new Set(written)].filter((url) => !known.has(url)).map((url) => [url])];
}

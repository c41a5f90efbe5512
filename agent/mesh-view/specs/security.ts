/**
 * PeerAuthentication, as far as this agent enforces them: shapes of verified config behind api/resources/enforced. The controller validated the
 * values; a reader here still meets `undefined` everywhere. Source: Istio's API reference; for v1 kinds, Kubernetes'.
 */

export interface PeerAuthenticationSpec {
  readonly selector?: { readonly matchLabels?: Readonly<Record<string, string>> };
  readonly mtls?: { readonly mode?: string };
  readonly portLevelMtls?: Readonly<Record<string, { readonly mode?: string }>>;
}

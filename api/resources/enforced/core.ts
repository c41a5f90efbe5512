/** Kinds that mean nothing by themselves, so that taking them ignores nothing; by kind and path why their fields are refused. */
export const INERT_KINDS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  Namespace: { 'spec.finalizers': 'a namespace goes at once, with all that is in it: nobody would be waited for' },
  ServiceAccount: {
    automountServiceAccountToken:
      'hosts get no tokens of service accounts: a workload’s identity is the certificate that its proxy holds',
    imagePullSecrets: 'hosts pull no container images',
    secrets: 'hosts mount no Secrets: only gateways and DestinationRules use some, by credentialName',
  },
};

const SILENTLY = 'pushing it would be ignored silently';

/** Kinds that are refused whole, by kind and reason, which follows "not supported yet: ". */
export const REFUSED_KINDS: Readonly<Record<string, string>> = {
  AuthorizationPolicy: `this version does not enforce AuthorizationPolicy; ${SILENTLY}, and what it denies would be let through. Until then: PeerAuthentication STRICT keeps strangers out, exportTo and Sidecar say who sees a service`,
  RequestAuthentication: `this version does not enforce RequestAuthentication; ${SILENTLY}, and requests with forged tokens would be let through. Until then the workload itself has to verify them`,
  Telemetry: `this version does not enforce Telemetry; ${SILENTLY}. Istio’s standard metrics are always there, and MeshConfig’s accessLog and accessLogFormat switch access logs on`,
};

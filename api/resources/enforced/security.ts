import { type KindEnforcement, spec } from './paths.ts';

export const SECURITY_KINDS: Readonly<Record<string, KindEnforcement>> = {
  PeerAuthentication: { fields: spec(['selector.matchLabels.*', 'mtls.mode', 'portLevelMtls.*.mode']) },
};

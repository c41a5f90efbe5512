import type { Json } from '../translate/resource-set.ts';
import type { Messages } from './messages.ts';
import { createEntry, type Entry } from './snapshot-cache.ts';

/** What Envoy may be given under one SDS name. `validation`: further members of the validation context (match_typed_subject_alt_names ...). */
export type SecretMaterial =
  | { readonly certificateChainPem: string; readonly privateKeyPem: string }
  | { readonly trustedCaPem: string; readonly validation?: { readonly [key: string]: Json | undefined } };

/**
 * Where SDS takes secrets from; the identity room fills it. Names: a workload's SVID goes by its SPIFFE ID, the trust bundle by `ROOTCA`.
 * `get` gives undefined for what this host does not have. `onChange` calls back after any material changed; what it returns is not used.
 */
export interface SecretSource {
  get(name: string): SecretMaterial | undefined;
  onChange(changed: () => void): unknown;
}

/** The name of the trust bundle. */
export const TRUST_BUNDLE = 'ROOTCA';

/** The Secret resource of `name`. Its bytes hold the private key: they go to Envoy and nowhere else. Throws XDS_ENCODE when `validation` is no validation context. */
export function secretEntry(messages: Messages, name: string, material: SecretMaterial): Entry {
  const body =
    'privateKeyPem' in material
      ? {
          name,
          tls_certificate: {
            certificate_chain: { inline_string: material.certificateChainPem },
            private_key: { inline_string: material.privateKeyPem },
          },
        }
      : { name, validation_context: { ...material.validation, trusted_ca: { inline_string: material.trustedCaPem } } };
  return createEntry(messages, { type: 'secret', name, body, origins: [] });
}

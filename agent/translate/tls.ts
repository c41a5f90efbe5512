import { ipVersion } from '../../api/cidr.ts';
import { ADS, any, extension, type JsonObject } from './json.ts';
import { alike } from './resource-set.ts';

/** Name of the trust bundle among the secrets. */
export const ROOT_SECRET = 'ROOTCA';
/** Asked for when a connection carries no identity; nobody serves it, so such a connection fails. */
export const NO_IDENTITY = 'no-identity';
/** Filter state by which Envoy's upstream certificate mapper finds the secret (it also separates connection pools). */
export const IDENTITY_STATE = 'envoy.tls.certificate_mappers.on_demand_secret';

/** What a client offers by ALPN says what is inside the mTLS: HTTP (which the server tells apart by itself) or bytes. */
export const ALPN = { http: 'istio-http/1.1', http2: 'istio-h2', tcp: 'istio' } as const;

const TLS_PARAMS: JsonObject = { tls_minimum_protocol_version: 'TLSv1_2', tls_maximum_protocol_version: 'TLSv1_3' };
/** The lowest version of TLS between proxies. */
export type MinTlsVersion = 'TLSv1_2' | 'TLSv1_3';

const UPSTREAM_TLS = 'envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext';
const DOWNSTREAM_TLS = 'envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext';

function secret(name: string): JsonObject {
  return alike({ name, sds_config: ADS });
}

function validation(sans: readonly JsonObject[]): JsonObject {
  return {
    combined_validation_context: {
      default_validation_context: { match_typed_subject_alt_names: sans },
      validation_context_sds_secret_config: secret(ROOT_SECRET),
    },
  };
}

/**
 * mTLS to a service: the caller's SVID by its connection's filter state (DESIGN 3.5), the server's SPIFFE ID exactly one of `identities`.
 * No identity known means nobody may answer: the pattern then matches nothing.
 */
export function upstreamMtls(options: {
  readonly identities: readonly string[];
  readonly sni: string;
  readonly alpn: string;
  readonly minVersion?: MinTlsVersion;
  /** Whose SVID a connection takes that says nothing of it; absent: nobody's, it fails. */
  readonly identity?: string | undefined;
}): JsonObject {
  const { identities, sni, alpn, minVersion = 'TLSv1_2', identity = NO_IDENTITY } = options;
  const sans = (identities.length === 0 ? ['spiffe://nobody'] : identities).map(
    (exact): JsonObject => ({ san_type: 'URI', matcher: { exact } }),
  );
  return extension('envoy.transport_sockets.tls', UPSTREAM_TLS, {
    sni,
    common_tls_context: {
      tls_params: alike({ ...TLS_PARAMS, tls_minimum_protocol_version: minVersion }),
      alpn_protocols: [alpn],
      custom_tls_certificate_selector: certificateOf(identity),
      ...validation(sans),
    },
  });
}

/** The SVID that a connection's filter state names, else that of `identity`. */
function certificateOf(identity: string): JsonObject {
  return alike(
    extension(
      'envoy.tls.upstream_certificate_selectors.on_demand_secret',
      'envoy.extensions.transport_sockets.tls.cert_selectors.on_demand_secret.v3.Config',
      {
        config_source: ADS,
        certificate_mapper: extension(
          'envoy.tls.upstream_certificate_mappers.filter_state_override',
          'envoy.extensions.transport_sockets.tls.cert_mappers.filter_state_override.v3.Config',
          { default_value: identity },
        ),
      },
    ),
  );
}

/**
 * mTLS of a workload's port: its own SVID; any workload of the trust domain may speak to it, nobody else (hosts' and controllers' SVIDs neither).
 * `own`: what a gateway's server says besides: whom of them it takes, versions and ciphers.
 */
export function downstreamMtls(
  spiffeId: string,
  trustDomain: string,
  minVersion: MinTlsVersion = 'TLSv1_2',
  own: { readonly peers?: readonly JsonObject[]; readonly params?: JsonObject } = {},
): JsonObject {
  return extension('envoy.transport_sockets.tls', DOWNSTREAM_TLS, {
    require_client_certificate: true,
    disable_stateless_session_resumption: true,
    disable_stateful_session_resumption: true,
    common_tls_context: {
      tls_params: { ...TLS_PARAMS, tls_minimum_protocol_version: minVersion, ...own.params },
      custom_tls_certificate_selector: extension(
        'envoy.tls.certificate_selectors.on_demand_secret',
        'envoy.extensions.transport_sockets.tls.cert_selectors.on_demand_secret.v3.Config',
        {
          config_source: ADS,
          certificate_mapper: extension(
            'envoy.tls.certificate_mappers.static_name',
            'envoy.extensions.transport_sockets.tls.cert_mappers.static_name.v3.StaticName',
            { name: spiffeId },
          ),
          prefetch_secret_names: [spiffeId],
        },
      ),
      ...validation(own.peers ?? [{ san_type: 'URI', matcher: { prefix: `spiffe://${trustDomain}/ns/` } }]),
    },
  });
}

/** No TLS. */
export const RAW: JsonObject = {
  name: 'envoy.transport_sockets.raw_buffer',
  typed_config: any('envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer'),
};

/** A subject alternative name, exactly; of a DNS name Envoy takes a certificate's wildcard too. */
export function sanMatcher(name: string): JsonObject {
  const type = name.includes('://')
    ? 'URI'
    : ipVersion(name) !== 0
      ? 'IP_ADDRESS'
      : name.includes('@')
        ? 'EMAIL'
        : 'DNS';
  return { san_type: type, matcher: { exact: name } };
}

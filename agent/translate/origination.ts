/**
 * TLS that a proxy begins by itself, to servers that are no part of the mesh (DestinationRule tls SIMPLE and MUTUAL). In: the settings. Out:
 * the transport socket, what HTTP adds to it, and the names under which SDS is asked for files. Certificates and keys never stand in a
 * cluster: agent/tls-files reads them from the folder that agent.yaml allows, and a file that is missing means no connection.
 */
import { caSdsName, credentialSdsName } from '../../api/resources/secret-data.ts';
import type { ClientTlsSpec } from '../mesh-view/specs/destination-rule.ts';
import { ADS, compact, extension, type JsonObject } from './json.ts';
import { sanMatcher } from './tls.ts';

/** Under this name the agent serves the CA bundle of its operating system. */
export const SYSTEM_ROOTS = 'system';
const CERTIFICATE = 'file-cert:';
const ROOTS = 'file-root:';
/** Under this name the agent serves a CA that nobody has. */
const NOBODY = `${ROOTS}nobody`;

/** What a connection of the operator's own TLS is made of. */
export interface Origination {
  readonly tls: ClientTlsSpec;
  /** Namespace whose Secret credentialName names for this client; undefined: it may have none, and connects to nobody. */
  readonly credentials?: string | undefined;
  /** Name of the service: what is asked for and believed where the settings name nothing. */
  readonly host: string;
  /** ServiceEntry.subjectAltNames: they count where the rule has none. */
  readonly subjectAltNames: readonly string[];
  /** `bytes`: there is no Host header to go by; `either`: the protocol is not declared. */
  readonly carries: 'http' | 'bytes' | 'either';
  readonly http2: boolean;
  readonly minVersion: 'TLSv1_2' | 'TLSv1_3';
}

/** The transport socket, and the members of upstream_http_protocol_options that go with it. */
export function originationSocket(from: Origination): { readonly socket: JsonObject; readonly http: JsonObject } {
  const names = expectedNames(from);
  const { tls } = from;
  const secrets = tlsSecrets(tls, from.credentials);
  const validation =
    secrets.roots === undefined
      ? { validation_context: {} }
      : {
          combined_validation_context: {
            default_validation_context: compact({
              match_typed_subject_alt_names:
                names.certificate.length === 0 ? undefined : names.certificate.map(sanMatcher),
            }),
            validation_context_sds_secret_config: { name: secrets.roots, sds_config: ADS },
          },
        };
  const socket = extension(
    'envoy.transport_sockets.tls',
    'envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
    compact({
      sni: names.sni,
      common_tls_context: compact({
        tls_params: { tls_minimum_protocol_version: from.minVersion, tls_maximum_protocol_version: 'TLSv1_3' },
        // Without this Envoy offers what each connection speaks.
        alpn_protocols: from.http2 ? ['h2'] : undefined,
        custom_tls_certificate_selector: secrets.certificate === undefined ? undefined : onDemand(secrets.certificate),
        ...validation,
      }),
    }),
  );
  return {
    socket,
    http: compact({ auto_sni: names.auto || undefined, auto_san_validation: names.autoSan || undefined }),
  };
}

/**
 * A certificate that is asked for when a connection is made: a cluster that names a file which is not there would otherwise warm for 15 s
 * while its predecessor goes on, in plaintext perhaps. No certificate, no connection.
 */
function onDemand(name: string): JsonObject {
  return extension(
    'envoy.tls.upstream_certificate_selectors.on_demand_secret',
    'envoy.extensions.transport_sockets.tls.cert_selectors.on_demand_secret.v3.Config',
    {
      config_source: ADS,
      certificate_mapper: extension(
        'envoy.tls.upstream_certificate_mappers.static_name',
        'envoy.extensions.transport_sockets.tls.cert_mappers.static_name.v3.StaticName',
        { name },
      ),
    },
  );
}

/** SDS names of the files that settings name. `roots` is undefined where nothing is verified. */
export function fileSecrets(tls: ClientTlsSpec): { readonly certificate?: string; readonly roots?: string } {
  const roots = `${ROOTS}${tls.caCertificates || SYSTEM_ROOTS}${tls.caCrl ? `~${tls.caCrl}` : ''}`;
  return {
    ...(tls.mode === 'MUTUAL' ? { certificate: `${CERTIFICATE}${tls.clientCertificate}~${tls.privateKey}` } : {}),
    ...(tls.insecureSkipVerify === true ? {} : { roots }),
  };
}

/** SDS names that a client's settings ask for: files, or the Secret that credentialName names, as gateways have theirs. */
export function tlsSecrets(
  tls: ClientTlsSpec,
  credentials: string | undefined,
): { readonly certificate?: string; readonly roots?: string } {
  const name = tls.credentialName;
  if (!name) return fileSecrets(tls);
  if (credentials === undefined) return { roots: NOBODY };
  return {
    ...(tls.mode === 'MUTUAL' ? { certificate: credentialSdsName(credentials, name) } : {}),
    ...(tls.insecureSkipVerify === true ? {} : { roots: caSdsName(credentials, name) }),
  };
}

interface Names {
  readonly sni: string | undefined;
  readonly auto: boolean;
  readonly certificate: readonly string[];
  readonly autoSan: boolean;
}

/**
 * Whom the client asks for and whom it believes. Names of the rule, else of the ServiceEntry; else, as in Istio, the Host of each request
 * where no SNI is written either. Beyond Istio: bytes, which have no Host, go by the service's own name, and an SNI that is written must be
 * in the certificate where any public CA may have signed it. A written SNI and a CA of one's own: the CA alone decides.
 */
function expectedNames({ tls, host, subjectAltNames, carries }: Origination): Names {
  const named = host.startsWith('*') ? undefined : host;
  const auto = !tls.sni && carries !== 'bytes';
  const sni = tls.sni || (carries === 'http' ? undefined : named);
  const written = tls.subjectAltNames?.length ? tls.subjectAltNames : subjectAltNames;
  const skip = tls.insecureSkipVerify === true;
  if (skip || written.length > 0) return { sni, auto, certificate: skip ? [] : written, autoSan: false };
  if (tls.sni) {
    const ownCa = Boolean(tls.caCertificates || tls.credentialName);
    return { sni, auto, certificate: ownCa ? [] : [tls.sni], autoSan: false };
  }
  if (carries === 'http' || named === undefined) return { sni, auto, certificate: [], autoSan: carries !== 'bytes' };
  return { sni, auto, certificate: [named], autoSan: false };
}

/** A PROXY header before what the inner socket sends. V1 unless told otherwise. */
export function withProxyHeader(inner: JsonObject, version: string | undefined): JsonObject {
  return extension(
    'envoy.transport_sockets.upstream_proxy_protocol',
    'envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport',
    { config: { version: version === 'V2' ? 'V2' : 'V1' }, transport_socket: inner },
  );
}

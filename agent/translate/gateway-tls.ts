/**
 * TLS that ends at a gateway. In: a server's settings. Out: the transport socket of its chains, and the names of the certificates that it
 * asks SDS for: Secrets (`kubernetes://NS/NAME`), or files on the host as origination.ts names them. Never: a key, or a chain that any client
 * may use where the server asks for certificates and no CA is known: then Envoy has no validation context and takes nobody.
 */
import { isCipherSuite } from '../../api/resources/cipher-suites.ts';
import { caSdsName, credentialSdsName } from '../../api/resources/secret-data.ts';
import type { GatewayServer } from '../mesh-view/gateway-view.ts';
import { isHttpServer, isPassthrough } from '../mesh-view/gateways.ts';
import type { ServerTlsSpec } from '../mesh-view/specs/gateway.ts';
import type { MeshView, WorkloadView } from '../mesh-view/view.ts';
import { ADS, compact, extension, type JsonObject } from './json.ts';
import { fileSecrets } from './origination.ts';
import { downstreamMtls, NO_IDENTITY, sanMatcher } from './tls.ts';

/** A listener with a certificate that is not here (yet) serves its other chains meanwhile. */
const SDS: JsonObject = { ...ADS, initial_fetch_timeout: '1s' };

export interface ServerTls {
  readonly socket: JsonObject;
  /** Secrets and files, beside the mesh's own. */
  readonly secrets: readonly string[];
}

/** Undefined where TLS is passed through, or there is none. */
export function serverTls(view: MeshView, workload: WorkloadView, server: GatewayServer): ServerTls | undefined {
  const { tls } = server;
  if (tls === undefined || isPassthrough(tls)) return undefined;
  if (tls.mode === 'ISTIO_MUTUAL') {
    const names = tls.subjectAltNames ?? [];
    const options = {
      params: params(tls, view.mesh.minTlsVersion),
      ...(names.length === 0 ? {} : { peers: names.map(sanMatcher) }),
    };
    return {
      socket: downstreamMtls(workload.spiffeId, view.trustDomain, view.mesh.minTlsVersion, options),
      secrets: [],
    };
  }
  return ownServerTls(tls, workload.namespace, isHttpServer(server));
}

/** TLS with certificates of the operator's own: a gateway's, or a Sidecar's ingress. `namespace`: where Secrets are. */
export function ownServerTls(tls: ServerTlsSpec, namespace: string, http: boolean): ServerTls {
  const certificates = certificateNames(tls, namespace);
  const ca = tls.mode === 'SIMPLE' ? undefined : caName(tls, namespace);
  const socket = extension(
    'envoy.transport_sockets.tls',
    'envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
    compact({
      require_client_certificate: tls.mode === 'MUTUAL' ? true : undefined,
      common_tls_context: compact({
        tls_params: params(tls, 'TLSv1_2'),
        alpn_protocols: http ? ['h2', 'http/1.1'] : undefined,
        tls_certificate_sds_secret_configs: certificates.map((name) => ({ name, sds_config: SDS })),
        combined_validation_context: ca === undefined ? undefined : validation(tls, ca),
      }),
    }),
  );
  return { socket, secrets: [...certificates, ...(ca === undefined ? [] : [ca])] };
}

function certificateNames(tls: ServerTlsSpec, namespace: string): readonly string[] {
  const credentials = tls.credentialNames?.length
    ? tls.credentialNames
    : tls.credentialName
      ? [tls.credentialName]
      : [];
  if (credentials.length > 0) return [...new Set(credentials.map((name) => credentialSdsName(namespace, name)))];
  const files = tls.tlsCertificates?.length ? tls.tlsCertificates : [tls];
  return files.flatMap(({ serverCertificate, privateKey }) => {
    const { certificate } = fileSecrets({ mode: 'MUTUAL', clientCertificate: serverCertificate, privateKey });
    return certificate === undefined ? [] : [certificate];
  });
}

/** Istio: its own Secret if one is named, else beside the certificate, else a file. */
function caName(tls: ServerTlsSpec, namespace: string): string {
  const credential = tls.caCertCredentialName || tls.credentialNames?.[0] || tls.credentialName;
  if (credential) return caSdsName(namespace, credential);
  const { caCertificates, caCrl } = tls;
  // The operating system's CAs are for servers: of clients nobody is believed unless a CA is named.
  return caCertificates ? (fileSecrets({ caCertificates, caCrl }).roots as string) : NO_IDENTITY;
}

function validation(tls: ServerTlsSpec, ca: string): JsonObject {
  const { subjectAltNames = [], verifyCertificateSpki = [], verifyCertificateHash = [] } = tls;
  const some = <T>(list: readonly T[]) => (list.length === 0 ? undefined : list);
  return {
    default_validation_context: compact({
      match_typed_subject_alt_names: some(subjectAltNames.map(sanMatcher)),
      verify_certificate_spki: some(verifyCertificateSpki),
      verify_certificate_hash: some(verifyCertificateHash),
    }),
    validation_context_sds_secret_config: { name: ca, sds_config: SDS },
  };
}

const VERSIONS: readonly string[] = ['TLSv1_0', 'TLSv1_1', 'TLSv1_2', 'TLSv1_3'];

/** `least` unless the server says otherwise; a lower maximum takes the minimum down with it. */
function params(tls: ServerTlsSpec, least: string): JsonObject {
  const version = (written: string | undefined) =>
    written === undefined || written === 'TLS_AUTO' ? undefined : written.replace('TLSV', 'TLSv');
  const max = version(tls.maxProtocolVersion) ?? 'TLSv1_3';
  const min = version(tls.minProtocolVersion) ?? least;
  const ciphers = [...new Set((tls.cipherSuites ?? []).filter(isCipherSuite))];
  return compact({
    tls_minimum_protocol_version: VERSIONS.indexOf(min) > VERSIONS.indexOf(max) ? max : min,
    tls_maximum_protocol_version: max,
    cipher_suites: ciphers.length === 0 ? undefined : ciphers,
  });
}

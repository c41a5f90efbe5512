/**
 * Gateway, as far as this agent enforces it: shapes of verified config behind api/resources/enforced. The controller validated the
 * values; a reader here still meets `undefined` everywhere. Source: Istio's API reference.
 */

/** ServerTLSSettings. `mode` absent is PASSTHROUGH. */
export interface ServerTlsSpec {
  readonly mode?: string;
  readonly httpsRedirect?: boolean;
  readonly serverCertificate?: string;
  readonly privateKey?: string;
  readonly caCertificates?: string;
  readonly caCrl?: string;
  readonly tlsCertificates?: readonly { readonly serverCertificate?: string; readonly privateKey?: string }[];
  readonly credentialName?: string;
  readonly credentialNames?: readonly string[];
  readonly caCertCredentialName?: string;
  readonly subjectAltNames?: readonly string[];
  readonly verifyCertificateSpki?: readonly string[];
  readonly verifyCertificateHash?: readonly string[];
  readonly minProtocolVersion?: string;
  readonly maxProtocolVersion?: string;
  readonly cipherSuites?: readonly string[];
}

export interface ServerSpec {
  readonly port?: { readonly number: number; readonly name?: string; readonly protocol?: string };
  readonly bind?: string;
  /** `[NAMESPACE/]HOST`, NAMESPACE also `.` and `*`. */
  readonly hosts?: readonly string[];
  readonly name?: string;
  readonly tls?: ServerTlsSpec;
}

export interface GatewaySpec {
  readonly selector?: Readonly<Record<string, string>>;
  readonly servers?: readonly ServerSpec[];
}

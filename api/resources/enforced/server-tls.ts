/** What a server's own TLS has in common wherever it ends: at a Gateway's server and at a Sidecar's ingress. */
export const SERVER_TLS: readonly string[] = [
  'mode',
  'serverCertificate',
  'privateKey',
  'caCertificates',
  'caCrl',
  'tlsCertificates[].serverCertificate',
  'tlsCertificates[].privateKey',
  'verifyCertificateSpki[]',
  'verifyCertificateHash[]',
  'minProtocolVersion',
  'maxProtocolVersion',
  'cipherSuites[]',
];

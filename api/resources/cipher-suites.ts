/** Cipher suites of TLS 1.2 and below that a Gateway may name (Istio's list, as far as the pinned Envoy has them). Those of TLS 1.3 cannot be chosen. */
const NAMED: ReadonlySet<string> = new Set([
  'ALL',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
  'ECDHE-ECDSA-AES128-SHA',
  'ECDHE-RSA-AES128-SHA',
  'ECDHE-ECDSA-AES256-SHA',
  'ECDHE-RSA-AES256-SHA',
  'AES128-GCM-SHA256',
  'AES256-GCM-SHA384',
  'AES128-SHA',
  'AES256-SHA',
]);

/** True for a name of the list, and for what begins with an operator of BoringSSL's (`[A|B]`, `-ALL`), which Envoy itself judges. */
export function isCipherSuite(name: string): boolean {
  return NAMED.has(name) || /^[^A-Za-z]/.test(name);
}

// @types/node-forge types the whole package only; we load the ASN.1 layer alone (6 MB less in every agent).
declare module 'node-forge/lib/asn1.js' {
  import type { asn1 } from 'node-forge';

  const layer: typeof asn1;
  export default layer;
}

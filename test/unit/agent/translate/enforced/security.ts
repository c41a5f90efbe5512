import type { Row } from './row.ts';

export const SECURITY_ROWS: readonly Row[] = [
  {
    kind: 'PeerAuthentication',
    name: 'extra',
    base: { selector: { matchLabels: { app: 'reviews' } }, mtls: { mode: 'PERMISSIVE' } },
    changes: [
      { mtls: { mode: 'STRICT' } },
      { mtls: { mode: 'STRICT' }, selector: { matchLabels: { app: 'web' } } },
      { portLevelMtls: { '9080': { mode: 'STRICT' } } },
    ],
  },
];

import type { ObjectKey } from '../object.ts';
import { MAX_FINDINGS } from '../report.ts';

/**
 * Kinds of findings. IST names are Istio's own (its analyzers' reference), where the finding is the same; HM names are ours. Fixed names: programs
 * and suppressions go by them.
 */
export const CODES = {
  referencedNotFound: 'IST0101',
  conflictingHosts: 'IST0109',
  portNeeded: 'IST0112',
  mtlsConflict: 'IST0113',
  portName: 'IST0118',
  hostNotInGateway: 'IST0132',
  addressesRequired: 'IST0134',
  conflictingGateways: 'IST0145',
  ineffectivePolicy: 'IST0167',
  emptySubset: 'IST0173',
  invalid: 'HM0001',
  doubtful: 'HM0002',
  portUnknown: 'HM0010',
  notVisible: 'HM0011',
  duplicateService: 'HM0012',
  nobodyServes: 'HM0013',
  targetPort: 'HM0014',
  serverFirst: 'HM0015',
  notHeld: 'HM0016',
  duplicateRule: 'HM0017',
} as const;

/** One thing that is wrong (`error`: calls will fail, or the object counts for nothing), or legal and probably not meant. */
export interface Finding {
  readonly severity: 'error' | 'warning';
  readonly code: (typeof CODES)[keyof typeof CODES];
  readonly object: ObjectKey;
  /** As in report.ts; empty: the whole object. */
  readonly path: string;
  readonly message: string;
}

/** Collects findings about one object, at most `MAX_FINDINGS`. */
export class Findings {
  readonly list: Finding[] = [];
  private readonly object: ObjectKey;

  constructor(object: ObjectKey) {
    this.object = object;
  }

  /** Nothing more is kept: loops within loops end here. */
  get full(): boolean {
    return this.list.length >= MAX_FINDINGS;
  }

  error(code: keyof typeof CODES, path: string, message: string): void {
    this.add('error', code, path, message);
  }

  warn(code: keyof typeof CODES, path: string, message: string): void {
    this.add('warning', code, path, message);
  }

  private add(severity: Finding['severity'], code: keyof typeof CODES, path: string, message: string): void {
    if (this.list.length < MAX_FINDINGS)
      this.list.push({ severity, code: CODES[code], object: this.object, path, message });
  }
}

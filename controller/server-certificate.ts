import { errorLine } from '../api/errors.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Part } from '../runtime/lifecycle.ts';
import type { Logger } from '../runtime/log.ts';
import type { Authority } from './ca/authority.ts';
import type { ControllerConfig } from './config.ts';

/** PEM chain and key of a server. */
export interface ServerTls {
  readonly cert: string;
  readonly key: string;
}

/** Certificates live 90 days (LIFETIMES_MS.server); a new one is made when the old is this old, and at each start. Looked at daily. */
const RENEW_AFTER_MS = 30 * 86_400_000;
const DAY_MS = 86_400_000;

/** A fresh certificate with the replica's SPIFFE ID and the names and addresses of controller.yaml, loopback too. */
export function issueServerTls(
  authority: Authority,
  config: Pick<ControllerConfig, 'addresses' | 'dnsNames'>,
  now: number,
): ServerTls {
  const ipAddresses = [...new Set([...config.addresses, '127.0.0.1', '::1'])];
  const dnsNames = [...new Set([...config.dnsNames, 'localhost'])];
  const { chainPem, keyPem } = authority.issueServer({ ipAddresses, dnsNames }, now);
  return { cert: chainPem, key: keyPem };
}

/** Calls `renew` in time while the process runs. A failure is logged and tried again the next day: 60 days are left. */
export function createRenewal(deps: { readonly clock: Clock; readonly log: Logger; renew(): void }): Part {
  const { clock, log, renew } = deps;
  let cancel = () => {};
  let madeAt = 0;
  const look = () => {
    cancel = clock.after(DAY_MS, look);
    // A clock that was set back does not put it off for ever.
    if (Math.abs(clock.now() - madeAt) < RENEW_AFTER_MS) return;
    try {
      renew();
      madeAt = clock.now();
      log.info('server certificate renewed');
    } catch (error) {
      log.error('server certificate not renewed', { reason: errorLine(error) });
    }
  };
  return {
    name: 'server-certificate',
    async start() {
      madeAt = clock.now();
      cancel = clock.after(DAY_MS, look);
    },
    async stop() {
      cancel();
    },
  };
}

import type { ServiceView } from './view.ts';

/** A service without an address of its own, whose clients go to addresses that they know themselves. */
export function isAnywhere({ resolution, addresses }: Pick<ServiceView, 'resolution' | 'addresses'>): boolean {
  return (resolution === 'NONE' || resolution === 'DYNAMIC_DNS') && addresses.length === 0;
}

/** A service whose servers are found by the name that each request or TLS handshake names. */
export function isDynamic({ resolution }: Pick<ServiceView, 'resolution'>): boolean {
  return resolution === 'DYNAMIC_DNS';
}

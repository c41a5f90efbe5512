/**
 * controller.yaml: options of mesh-controller, defaults, bounds and errors. In: the file's text. Out: ControllerConfig, or CONFIG_INVALID
 * with FILE:LINE:COL of every fault. packaging/etc/controller.yaml shows every key (a test compares).
 */
import { isIP } from 'node:net';
import { LABEL, SUBDOMAIN } from '../api/identity/spiffe-id.ts';
import { type ConfigReader, readConfig } from '../runtime/config-file.ts';

export interface ControllerConfig {
  /** Name of this replica. Default `c1`. */
  readonly replica: string;
  readonly trustDomain: string;
  /** Store, keys, audit log. Default /var/lib/mesh-controller. */
  readonly stateDir: string;
  /** Addresses that operators and agents reach this replica on; they go into its certificate and into join strings. At least one. */
  readonly addresses: readonly string[];
  readonly dnsNames: readonly string[];
  /** Where to listen; default every address. */
  readonly listen: string;
  readonly ports: { readonly rest: number; readonly agents: number };
  readonly logLevel: 'error' | 'warn' | 'info' | 'debug';
}

/** Parses controller.yaml. `file` is for messages. Throws CONFIG_INVALID. */
export function parseControllerConfig(text: string, file: string): ControllerConfig {
  return readConfig(text, file, (r) => {
    const config: ControllerConfig = {
      replica: r.string('replica', { default: 'c1', pattern: LABEL, expected: 'a DNS label' }),
      trustDomain: r.string('trustDomain', { pattern: SUBDOMAIN, expected: 'a DNS name, e.g. mesh.example.com' }),
      stateDir: r.string('stateDir', {
        default: '/var/lib/mesh-controller',
        pattern: /^\/[^\0]*$/,
        expected: 'an absolute path',
      }),
      addresses: addressesOf(r, 'addresses'),
      dnsNames: r.strings('dnsNames', { pattern: SUBDOMAIN, expected: 'a DNS name', max: 8 }),
      listen: r.string('listen', { default: '::' }),
      ports: r.object('ports', (p) => ({
        rest: p.integer('rest', { default: 15200, min: 1024, max: 65535 }),
        agents: p.integer('agents', { default: 15201, min: 1024, max: 65535 }),
      })),
      logLevel: r.oneOf('logLevel', ['error', 'warn', 'info', 'debug'], 'info'),
    };
    if (config.addresses.length === 0)
      r.fault('addresses', 'name at least one IP address on which hosts reach this controller');
    if (config.ports.rest === config.ports.agents) r.fault('ports', 'rest and agents need different ports');
    if (typeof config.listen === 'string' && isIP(config.listen) === 0) r.fault('listen', 'expected an IP address');
    return config;
  });
}

/** Keys that differ between two configs and that a running controller cannot take up: all but logLevel. */
export function restartKeys(before: ControllerConfig, after: ControllerConfig): readonly string[] {
  const keys = Object.keys(before) as (keyof ControllerConfig)[];
  return keys.filter((key) => key !== 'logLevel' && JSON.stringify(before[key]) !== JSON.stringify(after[key]));
}

function addressesOf(r: ConfigReader, key: string): string[] {
  const list = r.strings(key, { max: 8, expected: 'an IP address' });
  for (const item of list) if (isIP(item) === 0) r.fault(key, `expected an IP address, found ${JSON.stringify(item)}`);
  return list;
}

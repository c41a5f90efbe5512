/** What the agent knows of the machine it runs on: addresses, users, whether there is IPv6. Looked up again now and then. */
import { errorLine } from '../api/errors.ts';
import { canonicalIp } from '../api/gossip/address.ts';
import type { Clock } from '../runtime/clock.ts';
import { type AgentConfig, UNIT_NAME } from './config.ts';
import { globalAddresses, hasIpv6 } from './host/interfaces.ts';
import type { Users } from './host/users.ts';
import { watchUnits } from './host/watch-units.ts';
import type { HostView } from './mesh-view/view.ts';

export interface HostFacts {
  /** Throws USER_UNKNOWN when the proxy's or the agent's user does not exist. */
  start(): Promise<void>;
  stop(): void;
  view(): HostView;
  /** Of agent.yaml's bindings and portOwners: users that exist. */
  uids(): ReadonlyMap<string, number>;
  /** The others, each with why not. */
  unresolved(): ReadonlyMap<string, string>;
  readonly own: { readonly proxy: number; readonly agent: number };
  onChange(listener: () => void): void;
}

const LOOK_EVERY_MS = 10_000;
const MAX_ADDRESSES = 8;

export function createHostFacts(config: AgentConfig, users: Users, clock: Clock): HostFacts {
  const names = new Set(config.workloads.flatMap((w) => [w.user, ...w.portOwners]));
  const listeners: (() => void)[] = [];
  const own = { proxy: -1, agent: -1 };
  let view: HostView = {
    id: config.host,
    addresses: [],
    locality: config.locality,
    network: config.network,
    ipv6: false,
  };
  let uids = new Map<string, number>();
  let unresolved = new Map<string, string>();
  let cancel = () => {};
  let watching = { stop() {} };

  /** A host without any address for now (its link is down) keeps those it had: there is nobody to tell. */
  const addresses = (): readonly string[] => {
    const found = config.addresses.length > 0 ? config.addresses : globalAddresses();
    const usable = found.map(canonicalIp).filter((address) => address !== undefined);
    return usable.length === 0 ? view.addresses : [...new Set(usable)].slice(0, MAX_ADDRESSES);
  };
  const look = async () => {
    const found = new Map<string, number>();
    const missing = new Map<string, string>();
    for (const name of names) {
      try {
        found.set(name, await users.uid(name));
      } catch (error) {
        missing.set(name, errorLine(error));
      }
    }
    const next = { ...view, addresses: addresses(), ipv6: hasIpv6() };
    const changed =
      JSON.stringify([next, [...found], [...missing]]) !== JSON.stringify([view, [...uids], [...unresolved]]);
    view = next;
    uids = found;
    unresolved = missing;
    return changed;
  };
  const lookAndTell = () =>
    look()
      .then((changed) => changed && listeners.forEach((listener) => void listener()))
      .catch(() => {});
  const again = () => {
    cancel = clock.after(LOOK_EVERY_MS, () => void lookAndTell().finally(again));
  };

  return {
    async start() {
      own.proxy = await users.uid(config.proxyUser);
      own.agent = await users.uid(config.agentUser);
      await look();
      again();
      // a unit that is restarted as another user is captured before the next look
      watching = watchUnits(
        [...names].filter((name) => UNIT_NAME.test(name)),
        () => void lookAndTell(),
      );
    },
    stop() {
      cancel();
      watching.stop();
    },
    view: () => view,
    uids: () => uids,
    unresolved: () => unresolved,
    own,
    onChange: (listener) => void listeners.push(listener),
  };
}

/** A DNS server of agent/dns on inherited sockets, for the tests: what agent.ts does with the room. CONFIG holds its options as JSON. */
import { Registry } from 'prom-client';
import { inheritedSockets } from '../../agent/dns/listen-fds.ts';
import { createNames } from '../../agent/dns/resolve.ts';
import { createDns } from '../../agent/dns/server.ts';
import { createSockets } from '../../agent/host/sockets.ts';
import { systemClock } from '../../runtime/clock.ts';
import { untilSignal } from '../../runtime/lifecycle.ts';
import { silentLogger } from '../../runtime/log.ts';

interface Config {
  readonly basePort: number;
  readonly namespaces: readonly string[];
  readonly servers: readonly string[];
  readonly table: Readonly<Record<string, { v4: string[]; v6: string[] }>>;
  /** The least number of sockets that must have been handed over. */
  readonly inherited: number;
}

const config = JSON.parse(process.env.CONFIG ?? '') as Config;
const inherited = await inheritedSockets(createSockets());
if (inherited.length < config.inherited) throw new Error(`${inherited.length} sockets handed over`);
const names = createNames(() => new Map(Object.entries(config.table)));
const dns = createDns({
  names: () => names,
  namespaces: config.namespaces,
  basePort: config.basePort,
  findResolvers: async () => ({ servers: config.servers, search: [] }),
  inherited,
  clock: systemClock,
  log: silentLogger,
  registry: new Registry(),
});
await dns.start(new AbortController().signal);
await untilSignal();
await dns.stop();

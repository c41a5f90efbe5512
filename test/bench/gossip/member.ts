/** Members of the gossip bench: real gossip rooms, any number in this process. In: commands as JSON lines. Out: one JSON line an answer. */
import { createPrivateKey } from 'node:crypto';
import { createInterface } from 'node:readline';
import { Registry } from 'prom-client';
import { createGossip } from '../../../agent/gossip/gossip.ts';
import type { Gossip } from '../../../agent/gossip/gossip-api.ts';
import type { OwnFields } from '../../../agent/gossip/own-record.ts';
import type { HostGrant } from '../../../api/signed-config/desired-config.ts';
import { systemClock } from '../../../runtime/clock.ts';
import { silentLogger } from '../../../runtime/log.ts';
import { type Command, type MemberSpec, type MeshSpec, now, type Report } from './protocol.ts';

const GROUP = 'default/web';

interface Member {
  readonly spec: MemberSpec;
  gossip: Gossip;
  /** By host: what was last seen of it. */
  readonly seen: Map<string, { value: number; dead: boolean }>;
  running: boolean;
}

const members = new Map<string, Member>();
const published: [string, number, number][] = [];
const arrivals: [string, string, number, number][] = [];
const deaths: [string, string, number][] = [];
let grants: ReadonlyMap<string, HostGrant> = new Map();
let mesh: MeshSpec | undefined;

function fieldsOf({ spec }: Member, value: number): OwnFields {
  return {
    network: 'default',
    addresses: [spec.address],
    workloads: [{ group: GROUP, health: 'healthy', weight: value }],
  };
}

function room(spec: MemberSpec, { trustDomain, intermediatePem, port, dir }: MeshSpec): Gossip {
  const identity = { chainPem: spec.chainPem, privateKey: createPrivateKey(spec.privateKeyPem) };
  return createGossip({
    host: spec.name,
    trustDomain,
    identity: () => identity,
    grants: () => ({ hosts: grants, revokedHosts: new Set(), intermediates: [intermediatePem] }),
    listenAddresses: [spec.address],
    port,
    advertiseAddresses: [spec.address],
    addressAllowed: () => true,
    tablePath: `${dir}/${spec.name}.table`,
    counterPath: `${dir}/${spec.name}.counter`,
    clock: systemClock,
    random: Math.random,
    log: silentLogger,
    registry: new Registry(),
  });
}

function watch(member: Member): void {
  const { gossip, seen, spec } = member;
  gossip.onChange(() => {
    if (!member.running) return;
    const at = now();
    for (const [host, { record, liveness }] of gossip.snapshot().hosts) {
      if (host === spec.name) continue;
      const value = record.workloads[0]?.weight ?? 0;
      const dead = liveness === 'dead';
      const before = seen.get(host);
      if (before?.value !== value) arrivals.push([spec.name, host, value, at]);
      if (dead && before?.dead !== true) deaths.push([spec.name, host, at]);
      if (before === undefined) seen.set(host, { value, dead });
      else {
        before.value = value;
        before.dead = dead;
      }
    }
  });
}

async function run(member: Member, spec: MeshSpec): Promise<void> {
  member.gossip = room(member.spec, spec);
  member.running = true;
  watch(member);
  await member.gossip.start(new AbortController().signal);
  await member.gossip.publishOwn(fieldsOf(member, 1));
}

const each = (names: readonly string[], act: (member: Member) => Promise<void>): Promise<unknown> =>
  Promise.all(names.map((name) => act(members.get(name) as Member)));

function report(): Report {
  return {
    members: Object.fromEntries(
      [...members]
        .filter(([, { running }]) => running)
        .map(([name, { gossip }]) => {
          const hosts = [...gossip.snapshot().hosts.entries()].filter(([host]) => host !== name);
          const alive = hosts.filter(([, entry]) => entry.liveness === 'alive').length;
          return [name, { alive, known: hosts.length }];
        }),
    ),
    published,
    arrivals,
    deaths,
    rssMb: process.memoryUsage().rss / 2 ** 20,
  };
}

async function obey(command: Command): Promise<object> {
  switch (command.op) {
    case 'start':
      mesh = command.mesh;
      grants = new Map(
        command.mesh.granted.map(([host, address]): [string, HostGrant] => [
          host,
          {
            host,
            epoch: 1,
            workloadGroups: [GROUP],
            // as the controller writes it down when a host joins
            gossipAddresses: [`${address}:${command.mesh.port}`],
          },
        ]),
      );
      for (const spec of command.members) {
        const member: Member = { spec, gossip: undefined as unknown as Gossip, seen: new Map(), running: false };
        members.set(spec.name, member);
        await run(member, command.mesh);
      }
      return {};
    case 'publish':
      await each(command.names, async (member) => {
        published.push([member.spec.name, command.value, now()]);
        await member.gossip.publishOwn(fieldsOf(member, command.value));
      });
      return {};
    case 'stop':
      await each(command.names, async (member) => {
        member.running = false;
        await member.gossip.stop();
      });
      return {};
    case 'again':
      await each(command.names, (member) => run(member, mesh as MeshSpec));
      return {};
    case 'reset':
      for (const list of [published, arrivals, deaths]) list.length = 0;
      return {};
    case 'report':
      return report();
  }
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(await obey(JSON.parse(line) as Command))}\n`);
process.exit();

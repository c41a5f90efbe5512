/**
 * The lab's topology file. In: YAML text (issue 3's form). Out: a Topology, or MeshError CONFIG_INVALID with FILE:LINE:COL and path of
 * every fault. Pure: nothing on the machine is touched; an unknown key is refused, a known one is never ignored.
 */
import { LABEL, SUBDOMAIN } from '../../../api/identity/spiffe-id.ts';
import { type ConfigReader, readConfig } from '../../../runtime/config-file.ts';

export interface Topology {
  /** 0 or 1: replicated controllers need a store that is not built yet. */
  readonly controllers: number;
  readonly hosts: readonly LabHost[];
}

export interface LabHost {
  /** DNS label of at most 12 characters. */
  readonly name: string;
  /** False: a plain machine on the same network. */
  readonly agent: boolean;
  /** Its workloads are gateways: WorkloadGroups that its Envoy serves itself, without users. */
  readonly gateway: boolean;
  readonly workloads: readonly LabWorkload[];
}

export interface LabWorkload {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
  /** REGION[/ZONE[/SUBZONE]]; one for all workloads of a host; empty: none. */
  readonly locality: string;
  /** Unix user; made by `up` where it does not exist. Default `hm-NAME`. */
  readonly user: string;
  readonly ports: Readonly<Record<string, number>>;
}

const USER = /^[a-z_][-a-z0-9_]{0,31}$/;
const RESERVED = /^(controller|ctl\d*|net|root)$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
const LABEL_KEY = /^([-a-z0-9.]{1,253}\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

/** Parses a topology. `file` is for messages. Throws CONFIG_INVALID. */
export function parseTopology(text: string, file: string): Topology {
  return readConfig(text, file, (r) => {
    const controllers = r.integer('controllers', { default: 1, min: 0, max: 5 });
    if (controllers > 1)
      r.fault('controllers', 'expected 0 or 1: replicated controllers need the etcd store, which is not built yet');
    const hosts = r.list('hosts', readHost);
    if (hosts.length > 200) r.fault('hosts', 'at most 200');
    const names = new Set<string>();
    for (const host of hosts) {
      if (names.has(host.name)) r.fault('hosts', `host ${host.name} is there twice`);
      if (host.agent && controllers === 0)
        r.fault('hosts', `host ${host.name} has an agent and needs a controller to join`);
      names.add(host.name);
    }
    return { controllers, hosts };
  });
}

function readHost(r: ConfigReader): LabHost {
  const name = r.string('name', { pattern: LABEL, expected: 'a DNS label' });
  if (typeof name === 'string' && (name.length > 12 || RESERVED.test(name)))
    r.fault(
      'name',
      `expected at most 12 characters and none of controller, ctlN, net, root, found ${JSON.stringify(name)}`,
    );
  const agent = r.boolean('agent', true);
  const gateway = r.boolean('gateway', false);
  const workloads = r.list('workloads', readWorkload);
  if (!agent && workloads.length > 0)
    r.fault('workloads', 'a host without an agent is a plain machine: it has no workloads');
  checkWorkloads(r, workloads);
  return { name, agent, gateway, workloads };
}

function readWorkload(r: ConfigReader): LabWorkload {
  const name = r.string('name', { pattern: SUBDOMAIN, expected: 'a DNS name' });
  const labels: Record<string, string> = {};
  for (const [key, value] of Object.entries(r.scalars('labels'))) {
    if (!LABEL_KEY.test(key) || !LABEL_VALUE.test(String(value))) r.fault('labels', `${key}: ${value} is not a label`);
    labels[key] = String(value);
  }
  if (!r.has('labels')) labels.app = name;
  const ports: Record<string, number> = {};
  for (const [key, value] of Object.entries(r.scalars('ports'))) {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > 65535)
      r.fault('ports', `${key}: expected a whole number from 1 to 65535, found ${JSON.stringify(value)}`);
    else if (!LABEL.test(key)) r.fault('ports', `${key}: expected a name of lower-case letters, digits and hyphens`);
    else ports[key] = value;
  }
  return {
    name,
    namespace: r.string('namespace', { default: 'default', pattern: LABEL, expected: 'a namespace' }),
    serviceAccount: r.string('serviceAccount', {
      default: 'default',
      pattern: SUBDOMAIN,
      expected: 'a service account',
    }),
    labels,
    locality: r.string('locality', {
      default: '',
      pattern: /^([^/\s]+(\/[^/\s]+){0,2})?$/,
      expected: 'REGION[/ZONE[/SUBZONE]]',
    }),
    user: r.string('user', {
      default: `hm-${name}`.slice(0, 32).replaceAll('.', '-'),
      pattern: USER,
      expected: 'a user name',
    }),
    ports,
  };
}

function checkWorkloads(r: ConfigReader, workloads: readonly LabWorkload[]): void {
  const users = new Set<string>();
  const ports = new Map<number, string>();
  for (const { user, name, locality, ports: own } of workloads) {
    if (users.has(user)) r.fault('workloads', `user ${user} runs two workloads; each needs a user of its own`);
    if (['root', 'mesh-agent', 'mesh-proxy', 'mesh-controller'].includes(user))
      r.fault('workloads', `user ${user} cannot run a workload`);
    if (locality !== workloads[0]?.locality)
      r.fault('workloads', `a host is in one place: ${name} has another locality than ${workloads[0]?.name}`);
    users.add(user);
    for (const port of Object.values(own)) {
      if (ports.has(port)) r.fault('workloads', `port ${port} is ${ports.get(port)}'s already`);
      ports.set(port, name);
    }
  }
}

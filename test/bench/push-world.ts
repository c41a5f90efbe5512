/**
 * The mesh of the push bench: a mesh-controller as a process with a store on disk, hosts that are granted and have SVIDs of its CA, as
 * enrolment leaves them. In: a mesh of big-mesh.ts. Out: where to ask, what each host holds, a way to write by REST.
 */
import { createHash, createPublicKey, X509Certificate } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { keyPem, newKey } from '../../agent/identity/svid-file.ts';
import { type ApplyResponse, OPERATOR_API } from '../../api/http/operator-api.ts';
import { workloadSpiffeId } from '../../api/identity/spiffe-id.ts';
import type { MeshObject } from '../../api/resources/object.ts';
import { createApiClient } from '../../cli/client/api-client.ts';
import { type Authority, loadAuthority } from '../../controller/ca/authority.ts';
import { ROOT_ROWS } from '../../controller/signing/snapshot.ts';
import { statePaths } from '../../controller/state-dir.ts';
import { type HostRow, hostKeyOf } from '../../controller/store/internal-rows.ts';
import { openSqliteStore } from '../../controller/store/sqlite.ts';
import { controllerCommand, controllerYaml, freePorts, runController } from '../integration/controller-process.ts';
import { TRUST_DOMAIN } from '../unit/agent/mesh-view/build-mesh.ts';

/** What a host has after it joined; `workload` is the identity of the one that runs there. */
export interface HostSpec {
  readonly host: string;
  /** Where its gossip listens. */
  readonly address: string;
  readonly chainPem: string;
  readonly keyPem: string;
  readonly workload: { readonly spiffeId: string; readonly chainPem: string; readonly keyPem: string };
  /** API for agents. */
  readonly controller: string;
}

export interface World {
  readonly pid: number;
  readonly rootText: string;
  readonly rootPem: string;
  host(name: string): HostSpec;
  /** POST apply; the revision when it was answered. */
  apply(objects: readonly MeshObject[]): Promise<number>;
  stop(): Promise<void>;
}

export interface WorldHost {
  readonly host: string;
  readonly address: string;
  readonly groups: readonly string[];
}

/** WorkloadGroup that every host runs itself. */
export const CLIENT = { namespace: 'default', serviceAccount: 'client0' } as const;
export const GOSSIP_PORT = 15300;
/** Hosts whose gossip addresses config names. */
const SEEDS = 3;
const REPLICA = 'c1';

/** `hosts` by name: where their gossip listens and what they are granted beside CLIENT. */
export async function createPushWorld(dir: string, hosts: readonly WorldHost[]): Promise<World> {
  const stateDir = join(dir, 'controller');
  const configPath = join(dir, 'controller.yaml');
  const ports = await freePorts();
  await mkdir(stateDir, { mode: 0o700 });
  // Two addresses: a controller lets at most 64 requests of one address wait.
  const yaml = controllerYaml(stateDir, ports)
    .replace('addresses: [127.0.0.1]', "addresses: [127.0.0.1, '::1']")
    .replace('listen: 127.0.0.1', "listen: '::'");
  await writeFile(configPath, yaml);
  const made = await controllerCommand('init', '--config', configPath);
  if (made.code !== 0) throw new Error(made.err);
  const paths = statePaths(stateDir);
  const authority = await loadAuthority(paths.ca, TRUST_DOMAIN, REPLICA);
  const urls = [`https://127.0.0.1:${ports.agents}`, `https://[::1]:${ports.agents}`];
  const joined = hosts.map((host, i) => join_(authority, host, urls[i % urls.length] as string, i < SEEDS));
  const store = openSqliteStore({ path: paths.store });
  const root = await store.get(`${ROOT_ROWS}1`);
  await store.commit(joined.map(({ row }) => ({ key: hostKeyOf(row.host), value: JSON.stringify(row) })));
  await store.close();
  const running = await runController(configPath);
  const api = createApiClient({
    urls: [`https://127.0.0.1:${ports.rest}`],
    ca: await readFile(paths.caFile, 'utf8'),
    token: (await readFile(paths.adminToken, 'utf8')).trim(),
  });
  const specs = new Map(joined.map(({ spec }) => [spec.host, spec]));
  return {
    pid: running.pid,
    rootText: (JSON.parse(root?.value as string) as { text: string }).text,
    rootPem: authority.rootPem,
    host: (name) => specs.get(name) as HostSpec,
    async apply(objects) {
      const { body } = await api.send({ method: 'POST', path: OPERATOR_API.apply, body: { objects } });
      return (body as ApplyResponse).revision;
    },
    stop: async () => void (await running.stop()),
  };
}

/** What enrolment would leave on the host and in the store. */
function join_(authority: Authority, { host, address, groups }: WorldHost, controller: string, isSeed: boolean) {
  const now = Date.now();
  const own = newKey();
  const workload = newKey();
  const publicKey = createPublicKey(own);
  const chainPem = authority.issueHost(host, publicKey, now);
  const spiffeId = workloadSpiffeId(TRUST_DOMAIN, CLIENT.namespace, CLIENT.serviceAccount);
  const row: HostRow = {
    host,
    epoch: 1,
    workloadGroups: [`${CLIENT.namespace}/${CLIENT.serviceAccount}`, ...groups],
    gossipAddresses: isSeed ? [`${address}:${GOSSIP_PORT}`] : [],
    enrolledAt: new Date(now).toISOString(),
    hostKey: createHash('sha256')
      .update(publicKey.export({ format: 'der', type: 'spki' }))
      .digest('hex'),
    serials: [new X509Certificate(chainPem).serialNumber],
  };
  const spec: HostSpec = {
    host,
    address,
    chainPem,
    keyPem: keyPem(own),
    workload: {
      spiffeId,
      chainPem: authority.issueWorkload(spiffeId, host, createPublicKey(workload), now),
      keyPem: keyPem(workload),
    },
    controller,
  };
  return { row, spec };
}

/**
 * What a change costs a host: from verified config and the endpoint table to a real Envoy that has acknowledged it. CPU of the agent's rooms
 * (this process) and of Envoy apart; bytes are what Envoy is sent. Source of the peer's figures: docs/decisions/0016-incremental-translation.md.
 */
import { createMeshViews, type MeshViewInput } from '../../agent/mesh-view/mesh-view.ts';
import { createTranslator } from '../../agent/translate/translate.ts';
import { createTestCa } from '../builders/test-ca.ts';
import { openLab, type XdsLab } from '../integration/xds-lab.ts';
import { meshInput, type TestMesh } from '../unit/agent/mesh-view/build-mesh.ts';
import { bigMesh, route } from './big-mesh.ts';
import { cpuSeconds, rssMb } from './processes.ts';
import { median, percentile, round } from './stats.ts';

const CHANGES = 20;
const APPLY_WITHIN_MS = 60_000;

/** An agent's pipeline with an Envoy at its end. */
interface Pipeline {
  /** Milliseconds of CPU here and in Envoy, and until Envoy has acknowledged; how many bytes were sent. */
  run(input: MeshViewInput): Promise<Cost>;
  readonly envoyPid: number;
}

interface Cost {
  readonly agentCpuMs: number;
  readonly envoyCpuMs: number;
  readonly appliedMs: number;
  readonly sent: Record<string, number>;
}

export async function run(say: (line: string) => void): Promise<object> {
  const figures: Record<string, object> = {};
  const measures: readonly (readonly [string, () => Promise<object>])[] = [
    ['500 services, 100 hosts', () => changes(bigMesh({ services: 500, hosts: 100 }))],
    // The first time a process runs cold: half of it is the runtime, getting warm.
    ['500 services, all of it once more', () => whole(bigMesh({ services: 500, hosts: 100 }))],
    ['1000 services, 1 identity', () => whole(bigMesh({ services: 1000, hosts: 100 }))],
    ['1000 services, 5 identities', () => whole(bigMesh({ services: 1000, hosts: 100, identities: 5 }))],
    [
      '1000 services, 5 identities of 5 namespaces',
      () => whole(bigMesh({ services: 1000, hosts: 100, identities: 5, apart: true })),
    ],
  ];
  for (const [name, measure] of measures) {
    figures[name] = await measure();
    say(`${name}: ${JSON.stringify(figures[name])}`);
  }
  return figures;
}

async function withPipeline<T>(
  mesh: TestMesh,
  use: (pipeline: Pipeline, input: MeshViewInput) => Promise<T>,
): Promise<T> {
  const undo: (() => unknown)[] = [];
  try {
    const lab = await openLab((fn) => undo.push(fn));
    const input = meshInput(mesh);
    giveSecrets(lab, input);
    await lab.startAgent();
    const envoyPid = lab.startEnvoy();
    return await use(createPipeline(lab, envoyPid), input);
  } finally {
    for (const fn of undo.reverse()) await fn();
  }
}

function giveSecrets(lab: XdsLab, input: MeshViewInput): void {
  const ca = createTestCa();
  lab.secrets.set('ROOTCA', { trustedCaPem: ca.rootPem });
  for (const { namespace, serviceAccount, spiffeId } of input.workloads) {
    const { chainPem, privateKeyPem } = ca.workload(namespace, serviceAccount, input.host.id);
    lab.secrets.set(spiffeId, { certificateChainPem: chainPem, privateKeyPem });
  }
}

function createPipeline(lab: XdsLab, envoyPid: number): Pipeline {
  const viewOf = createMeshViews();
  const translate = createTranslator();
  const cpu = () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  };
  let waiting = () => {};
  lab.xds().onStatus(() => waiting());
  const changed = () =>
    new Promise<void>((resolve) => {
      waiting = resolve;
    });
  return {
    envoyPid,
    async run(input) {
      const before = { here: cpu(), envoy: cpuSeconds(envoyPid), at: performance.now() };
      lab.xds().setResources(translate(viewOf(input)));
      await acknowledged(lab, changed, input.desired.generation);
      const appliedMs = performance.now() - before.at;
      const agentCpuMs = cpu() - before.here;
      // /proc counts in 10 ms: what Envoy does after its answer counts too
      await pause(30);
      return {
        agentCpuMs: round(agentCpuMs),
        envoyCpuMs: round((cpuSeconds(envoyPid) - before.envoy) * 1000),
        appliedMs: round(appliedMs),
        sent: await lab.sent(),
      };
    },
  };
}

/** Asks at each change of the status, not in between: asking would be half of the CPU that is measured. */
async function acknowledged(lab: XdsLab, changed: () => Promise<void>, generation: number): Promise<void> {
  const end = performance.now() + APPLY_WITHIN_MS;
  while (performance.now() < end) {
    const { settled, ackedGeneration, refused } = lab.xds().status();
    if (refused.length > 0) throw new Error(`Envoy refused ${refused[0]?.resource}: ${refused[0]?.message}`);
    if (settled && ackedGeneration === generation) return;
    await Promise.race([changed(), pause(1000)]);
  }
  throw new Error(`Envoy did not acknowledge generation ${generation}: ${lab.envoyLog().slice(-500)}`);
}

const pause = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));

/** All of it once, then one VirtualService and one endpoint again and again. */
function changes(mesh: TestMesh): Promise<object> {
  return withPipeline(mesh, async (pipeline, start) => {
    let input = start;
    const first = await pipeline.run(input);
    const repeat = async (change: (i: number) => MeshViewInput) => {
      const costs: Cost[] = [];
      for (let i = 0; i < CHANGES; i++) {
        input = change(i);
        costs.push(await pipeline.run(input));
      }
      return summary(costs);
    };
    const next = () => ({ ...input.desired, generation: input.desired.generation + 1 });
    const oneRoute = await repeat((i) => {
      const objects = new Map(input.desired.objects).set('VirtualService/default/svc5', route(5, `${20 + i}s`));
      return { ...input, desired: { ...next(), objects } };
    });
    const oneEndpoint = await repeat((i) => {
      const hosts = new Map(input.endpoints.hosts);
      const entry = hosts.get('h7');
      if (entry === undefined) throw new Error('no host h7');
      hosts.set('h7', { ...entry, liveness: i % 2 === 0 ? 'dead' : 'alive' });
      return { ...input, desired: next(), endpoints: { ...input.endpoints, hosts } };
    });
    return { first, oneRoute, oneEndpoint, envoyRssMb: round(rssMb(pipeline.envoyPid)) };
  });
}

function summary(costs: readonly Cost[]): object {
  const of = (pick: (cost: Cost) => number) => costs.map(pick);
  return {
    agentCpuMs: median(of((cost) => cost.agentCpuMs)),
    envoyCpuMs: round(of((cost) => cost.envoyCpuMs).reduce((sum, ms) => sum + ms, 0) / costs.length),
    appliedP50Ms: median(of((cost) => cost.appliedMs)),
    appliedP99Ms: percentile(
      of((cost) => cost.appliedMs),
      0.99,
    ),
    sent: costs.at(-1)?.sent,
  };
}

function whole(mesh: TestMesh): Promise<object> {
  return withPipeline(mesh, async (pipeline, input) => {
    const cost = await pipeline.run(input);
    return { ...cost, envoyRssMb: round(rssMb(pipeline.envoyPid)) };
  });
}

/**
 * scripts/lab: hosts as network namespaces, for tests and for people. In: a command line (USAGE). Out: exit status 0 done, 1 failed, 64 a
 * wrong call; words on stderr, results on stdout. `exec` is done by the sh in front of this, so that signals and stdin pass through.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { createExec } from '../../../agent/host/exec.ts';
import { errorLine, MeshError } from '../../../api/errors.ts';
import { order } from './control.ts';
import { takeDown } from './down.ts';
import { heal, partition, setLink } from './network.ts';
import { type Node, PORTS, planLab } from './plan.ts';
import { meshPrograms, OPERATOR } from './programs.ts';
import { nodeNamed, requireState } from './state.ts';
import { labStatus, statusText } from './status.ts';
import { parseTopology } from './topology.ts';
import { bringUp } from './up.ts';

const USAGE = `usage: scripts/lab COMMAND
  up --file TOPOLOGY.yaml [--keep]     controllers, hosts, agents, proxies; --keep leaves a failed lab for a look
  exec HOST [--user U] -- CMD...       in the host's network, with its resolver
  env                                  MESH_API, MESH_CA_FILE, MESH_TOKEN for meshctl and curl
  stop|start HOST agent|proxy|all      as systemctl does; stop agent: leaves, rules off, proxy down
  kill HOST agent|proxy [--stay-down]  SIGKILL; started again at once unless --stay-down
  kill HOST all                        power loss: all of the mesh's programs are dead until \`start HOST all\`, a boot
  stop|start|kill controller [N]       every controller, or the Nth; a killed one stays down until start
  link HOST up|down                    the cable of a host
  partition A B                        no frame between A and B; each a host, ctlN, or several with commas
  heal                                 ends partitions, links up
  status [--json]
  down                                 leaves nothing behind; safe to repeat
`;

const exec = createExec();

async function main(argv: readonly string[]): Promise<number> {
  const [command = '', ...rest] = argv;
  if (['--help', '-h', 'help'].includes(command)) {
    process.stdout.write(USAGE);
    return 0;
  }
  const run = COMMANDS[command];
  if (run === undefined) throw usage(command === '' ? 'a command is missing' : `unknown command ${command}`);
  if (process.getuid?.() !== 0)
    throw new MeshError('LAB_ROOT', 'the lab makes network namespaces and users: run it as root');
  return run(rest);
}

const COMMANDS: Readonly<Record<string, (args: string[]) => Promise<number>>> = {
  up,
  down,
  env,
  status,
  heal: async (args) => {
    positionals(args, 0);
    const { plan } = requireState();
    await heal(exec, [...plan.controllers, ...plan.hosts]);
    return 0;
  },
  link: async (args) => {
    const [host = '', way = ''] = positionals(args, 2);
    if (way !== 'up' && way !== 'down') throw usage('link HOST up|down');
    await setLink(exec, nodeNamed(requireState(), host), way === 'up');
    return 0;
  },
  partition: async (args) => {
    const [a = '', b = ''] = positionals(args, 2);
    const state = requireState();
    const nodes = (side: string): Node[] =>
      side.split(',').flatMap((name) => (name === 'controller' ? state.plan.controllers : [nodeNamed(state, name)]));
    await partition(exec, nodes(a), nodes(b));
    return 0;
  },
  start: (args) => units('start', args),
  stop: (args) => units('stop', args),
  kill: (args) => units('kill', args),
};

async function up(args: string[]): Promise<number> {
  const { values } = parse(args, { file: { type: 'string' }, keep: { type: 'boolean' } }, 0);
  const file = values.file;
  if (typeof file !== 'string') throw usage('up needs --file TOPOLOGY.yaml');
  const plan = planLab(parseTopology(readFileSync(file, 'utf8'), file));
  const begun = performance.now();
  const say = (line: string) =>
    process.stderr.write(`lab: ${line} (${((performance.now() - begun) / 1000).toFixed(1)} s)\n`);
  const clear = async () => {
    if (values.keep !== true) await takeDown(exec);
  };
  let interrupted = false;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      interrupted = true;
      void takeDown(exec).finally(() => process.exit(130));
    });
  }
  try {
    await bringUp({ exec, programs: meshPrograms, say }, plan);
  } catch (error) {
    if (interrupted) return await new Promise<never>(() => {}); // takeDown ends the process
    if (!(error instanceof MeshError && ['LAB_EXISTS', 'LAB_SUBNET_TAKEN', 'LAB_NAMESPACE_TAKEN'].includes(error.code)))
      await clear();
    throw error;
  }
  say('up');
  return 0;
}

async function down(args: string[]): Promise<number> {
  positionals(args, 0);
  const was = await takeDown(exec);
  process.stderr.write(was ? 'lab: down\n' : 'lab: none was up\n');
  return 0;
}

async function env(args: string[]): Promise<number> {
  positionals(args, 0);
  const [controller] = requireState().plan.controllers;
  if (controller === undefined) throw new MeshError('LAB_NO_CONTROLLER', 'this lab has no controller');
  const token = readFileSync(OPERATOR.token, 'utf8').trim();
  process.stdout.write(
    `MESH_API=https://${controller.ip4}:${PORTS.rest}\nMESH_CA_FILE=${OPERATOR.caFile}\nMESH_TOKEN=${token}\n`,
  );
  return 0;
}

async function status(args: string[]): Promise<number> {
  const { values } = parse(args, { json: { type: 'boolean' } }, 0);
  const found = await labStatus(exec, requireState());
  process.stdout.write(values.json === true ? `${JSON.stringify(found, null, 2)}\n` : statusText(found));
  return 0;
}

async function units(verb: 'start' | 'stop' | 'kill', args: string[]): Promise<number> {
  const { values, positionals: names } = parse(args, { 'stay-down': { type: 'boolean' } }, undefined);
  if (values['stay-down'] === true && verb !== 'kill') throw usage('--stay-down goes with kill');
  const [name = '', unit] = names;
  if (name === 'controller') {
    if (names.length > 2 || (unit !== undefined && !/^\d+$/.test(unit))) throw usage(`${verb} controller [N]`);
    const state = requireState();
    const chosen = unit === undefined ? state.plan.controllers : [nodeNamed(state, `ctl${unit}`)];
    if (chosen.length === 0) throw new MeshError('LAB_NO_CONTROLLER', 'this lab has no controller');
    for (const node of chosen)
      await order(
        node.name,
        verb === 'kill' ? { do: verb, unit: 'controller', stayDown: true } : { do: verb, unit: 'controller' },
      );
    return 0;
  }
  if (names.length !== 2 || unit === undefined || !['agent', 'proxy', 'all'].includes(unit))
    throw usage(`${verb} HOST agent|proxy|all`);
  const host = requireState().plan.hosts.find((h) => h.name === nodeNamed(requireState(), name).name);
  if (host?.agent !== true) throw new MeshError('LAB_NODE', `${name} runs no agent and no proxy`);
  await order(name, verb === 'kill' ? { do: verb, unit, stayDown: values['stay-down'] === true } : { do: verb, unit });
  return 0;
}

type Options = NonNullable<NonNullable<Parameters<typeof parseArgs>[0]>['options']>;

function parse(args: string[], options: Options, count: number | undefined) {
  try {
    const parsed = parseArgs({ args, options, allowPositionals: count !== 0 });
    if (count === undefined || parsed.positionals.length === count) return parsed;
  } catch (error) {
    throw usage(errorLine(error));
  }
  throw usage(`expected ${count} arguments`);
}

function positionals(args: string[], count: number): string[] {
  return parse(args, {}, count).positionals;
}

function usage(message: string): MeshError {
  return new MeshError('USAGE', `${message}\n${USAGE}`);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const wrongCall = error instanceof MeshError && error.code === 'USAGE';
  const words =
    error instanceof MeshError && error.cause !== undefined
      ? `${error.message}\n${errorLine(error.cause)}`
      : error instanceof Error
        ? error.message
        : String(error);
  process.stderr.write(`lab: ${words.trimEnd()}\n`);
  process.exitCode = wrongCall ? 64 : 1;
}

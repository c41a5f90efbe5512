/**
 * meshctl's commands: argv comes in, an exit code goes out. Parsing here, work in commands/, one file each, loaded only when called. It
 * must never take a credential from argv, nor print one but the join string that was asked for.
 */
import { Command as Commander, CommanderError, Option } from 'commander';
import { errorLine, hasCode, MeshError } from '../api/errors.ts';
import type { ConfigPart } from '../api/http/host-query.ts';
import { VERSION } from '../api/version.ts';
import { type CliContext, type Command, EXIT, type GlobalOptions } from './context.ts';
import { OUTPUT_FORMATS } from './output/json.ts';
import { plain } from './output/table.ts';

type Load = () => Promise<Command<never>>;

/** Runs meshctl with the arguments after the program's name; never throws, returns the exit code (0 ok, 1 failed or refused, 64 usage). */
export async function runCli(argv: readonly string[], context: CliContext): Promise<number> {
  // `why A -> B`: the arrow is punctuation, and an option to the parser.
  const args = argv.filter((arg) => arg !== '->');
  let code: number = EXIT.ok;
  const program = buildProgram(context, async (load, options, rest) => {
    const command = (await load()) as Command;
    code = await command(context, options as GlobalOptions, rest);
  });
  try {
    await program.parseAsync([...args], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (hasCode(error, 'USAGE')) {
      context.err(`error: ${error.message}`);
      return EXIT.usage;
    }
    for (const line of (error instanceof MeshError ? error.message : errorLine(error)).split('\n'))
      context.err(plain(`error: ${line}`));
    return EXIT.failed;
  }
}

type Run = (load: Load, options: object, rest: readonly string[]) => Promise<void>;

function buildProgram(context: CliContext, run: Run): Commander {
  const program = new Commander('meshctl')
    .description('Operates a Hostmesh: applies configuration, asks, explains.')
    .version(VERSION, '--version')
    .option('--api <url>', 'controller, https://HOST:15200; several with commas (MESH_API)')
    .option('--ca-file <path>', 'authority of the controller’s certificate (MESH_CA_FILE)')
    .option('--token-file <path>', 'file with the token; or the token itself in MESH_TOKEN')
    .option('--cert-file <path>', 'client certificate (MESH_CERT_FILE)')
    .option('--key-file <path>', 'its key (MESH_KEY_FILE)')
    .option('--socket <path>', 'ask the agent of this host instead, e.g. /run/mesh/admin.sock')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.out(text.trimEnd()),
      writeErr: (text) => context.err(text.trimEnd()),
    });
  /** A subcommand that runs `load`'s command with all options, its own and the global ones. */
  const command = (parent: Commander, usage: string, description: string, load: Load): Commander => {
    const made = parent.command(usage).description(description).exitOverride();
    return made.action(async () => run(load, made.optsWithGlobals(), made.args));
  };
  objectCommands(program, command);
  hostCommands(program, command);
  lookCommands(program, command);
  principalCommands(program, command);
  return program;
}

type Make = (parent: Commander, usage: string, description: string, load: Load) => Commander;

const output = (): Option =>
  new Option('-o, --output <format>', 'how to print').choices([...OUTPUT_FORMATS]).default('table');
const namespace = ['-n, --namespace <name>', 'namespace (default: default)'] as const;
const files = ['-f, --filename <path...>', 'file, folder, or - for standard input'] as const;

function objectCommands(program: Commander, command: Make): void {
  command(
    program,
    'apply',
    'store the objects of files, all or none',
    async () => (await import('./commands/apply.ts')).apply,
  )
    .requiredOption(...files)
    .option(...namespace)
    .option('--dry-run', 'check everything, store nothing')
    .addOption(output());
  command(program, 'get <kind> [name...]', 'list objects', async () => (await import('./commands/get.ts')).get)
    .option(...namespace)
    .option('-A, --all-namespaces', 'of all namespaces')
    .option('-l, --selector <labels>', 'only those with the labels, e.g. app=reviews')
    .addOption(output());
  command(
    program,
    'describe <kind-or-host> [name]',
    'a host: what it runs and what its Envoy refused; a service: who serves it and what shapes it; or an object',
    async () => (await import('./commands/describe.ts')).describe,
  )
    .option(...namespace)
    .addOption(output());
  command(
    program,
    'delete [kind] [name...]',
    'delete objects',
    async () => (await import('./commands/delete.ts')).remove,
  )
    .option(...files)
    .option(...namespace)
    .option('--dry-run', 'check everything, delete nothing')
    .option('--ignore-not-found', 'what is not there counts as deleted');
  command(
    program,
    'analyze',
    'check files offline, or the live mesh',
    async () => (await import('./commands/analyze.ts')).analyze,
  )
    .option(...files)
    .option('--live', 'check the files beside what the mesh holds')
    .option(...namespace)
    .addOption(output());
}

function hostCommands(program: Commander, command: Make): void {
  const token = program.command('token').description('join tokens').exitOverride();
  command(
    token,
    'create',
    'print a join string for a host, once',
    async () => (await import('./commands/token.ts')).tokenCreate,
  )
    .requiredOption('--host <id>', 'id of the host that may join')
    .option('--group <namespace/name...>', 'WorkloadGroup that it may serve; repeat for more')
    .option('--ttl <duration>', 'how long the string is good, 1s to 168h (default: 1h)')
    .option('--peer <ip:port...>', 'gossip address to dial first; repeat for more')
    .addOption(output());
  const hosts = program.command('hosts').description('hosts of the mesh').exitOverride();
  command(hosts, 'list', 'list hosts', async () => (await import('./commands/hosts.ts')).hostsList).addOption(output());
  command(
    hosts,
    'revoke <name...>',
    'cut hosts off, within seconds',
    async () => (await import('./commands/hosts.ts')).hostsRevoke,
  );
  command(
    program,
    'status',
    'the mesh, or with --socket the agent of this host',
    async () => (await import('./commands/status.ts')).status,
  ).addOption(output());
  command(
    program,
    'peers [graph]',
    'on a host: the hosts it knows by gossip; graph: who is linked to whom, as all hosts report',
    async () => (await import('./commands/peers.ts')).peers,
  )
    .option('--watch [seconds]', 'print the table again and again (default: every 2 seconds)')
    .option('--dot', 'graph in Graphviz’s language')
    .addOption(output());
  const config = program.command('config').description('on a host: what its agent works with').exitOverride();
  command(
    config,
    'dump [what]',
    'envoy (default), desired or endpoints',
    async () => (await import('./commands/agent.ts')).configDump,
  ).addOption(output());
  command(
    program,
    'log-level <level>',
    'on a host: set the agent’s log level',
    async () => (await import('./commands/agent.ts')).logLevel,
  );
}

const PARTS: Readonly<Record<ConfigPart, readonly [alias: string, description: string, options: readonly string[]]>> = {
  listeners: ['listener', 'filter chains and where they lead', ['name', 'address', 'port', 'fqdn', 'direction']],
  routes: ['route', 'routes of HTTP, by virtual host', ['name', 'fqdn', 'port']],
  clusters: ['cluster', 'clusters, by service, port and subset', ['name', 'fqdn', 'port', 'subset', 'direction']],
  endpoints: ['endpoint', 'endpoints and their health', ['name', 'fqdn', 'subset', 'address', 'port', 'status']],
  secrets: ['secret', 'certificates: names and validity, never keys', ['name']],
};

const FILTERS: Readonly<Record<string, () => Option>> = {
  name: () => new Option('--name <name>', 'of that resource'),
  fqdn: () => new Option('--fqdn <host>', 'of that service, whole or up to a dot'),
  port: () => new Option('--port <number>', 'of that port'),
  subset: () => new Option('--subset <name>', 'of that subset'),
  direction: () => new Option('--direction <direction>', 'of that direction').choices(['inbound', 'outbound']),
  address: () => new Option('--address <ip>', 'of that address'),
  status: () => new Option('--status <status>', 'of that health').choices(['healthy', 'unhealthy']),
};

/** An option given several times, beside arguments: a list that an option takes whole would swallow them. */
function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

function lookCommands(program: Commander, command: Make): void {
  const config = program
    .command('proxy-config')
    .alias('pc')
    .description('what a host’s Envoy has; without HOST: the one of this machine, which needs no controller')
    .exitOverride();
  for (const [part, [alias, description, options]] of Object.entries(PARTS)) {
    const made = command(config, `${part} [host]`, description, async () =>
      (await import('./commands/proxy-config.ts')).proxyConfig(part as ConfigPart),
    ).alias(alias);
    for (const option of options) made.addOption((FILTERS[option] as () => Option)());
    made.addOption(output());
  }
  command(
    config,
    'log [host]',
    'Envoy’s log levels, until it restarts',
    async () => (await import('./commands/proxy-config.ts')).proxyLog,
  )
    .option('--level <level>', 'set all loggers, or some: LOGGER:LEVEL,...')
    .addOption(output());
  command(
    program,
    'why <call...>',
    "what would happen to a call, and which object decides: HOST[/WORKLOAD] '->' NAME:PORT[/PATH]",
    async () => (await import('./commands/why.ts')).why,
  )
    .option('-X, --method <method>', 'of the request (default: GET)')
    .option('-H, --header <name=value>', 'of the request; repeat for more', collect)
    .addOption(new Option('--protocol <protocol>', 'what the client speaks').choices(['http', 'tcp', 'tls']))
    .option(
      '-f, --filename <path>',
      'file or folder with the objects: decisions are named by its lines; repeat for more',
      collect,
    )
    .addOption(output());
}

function principalCommands(program: Commander, command: Make): void {
  const principals = program.command('principals').description('who may call a controller').exitOverride();
  const load = async () => await import('./commands/principals.ts');
  command(principals, 'list', 'list principals', async () => (await load()).principalsList).addOption(output());
  command(
    principals,
    'create <name>',
    'print a new principal’s token, once; or make it a client certificate',
    async () => (await load()).principalsCreate,
  )
    .option('--admin', 'may do everything')
    .option('-n, --namespace <name>', 'may write there; repeat for more', collect)
    .option(
      '--verb <verb>',
      'may only do that: get, list, watch, create, update, patch, delete; repeat for more',
      collect,
    )
    .option('--replace', 'give one that is there new rights and a new credential')
    .option('--cert-out <path>', 'write a client certificate there instead of a token')
    .option('--key-out <path>', 'and its key, which is made here, there');
  command(
    principals,
    'delete <name...>',
    'refuse them from their next request on',
    async () => (await load()).principalsDelete,
  );
}

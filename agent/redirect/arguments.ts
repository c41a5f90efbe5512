import { parseArgs } from 'node:util';
import { errorLine, MeshError } from '../../api/errors.ts';

/** What `mesh-agent redirect` can be asked for. `revert` is the revert timer's own and stands in no help. */
const VERBS = {
  plan: 'show the diff that apply would make, and what it would capture; change nothing',
  check: 'say whether the rules stand as asked for, by exit code 0 or 1 too; change nothing',
  apply: 'bring the kernel to what the agent asked for (mesh-redirect.service); --dry-run is plan',
  clean: 'take everything of ours away',
  confirm: 'let rules that are new on this host stand: ends the revert timer',
  order: 'write what agent.yaml asks of systemd: workloads after the mesh, exec probes (mesh-order.service)',
  'dns-off': 'capture DNS no longer, all else stays (mesh-dns-off.service: the agent has failed)',
  'proxy-failed': 'as onProxyFailure says: clean, or nothing (mesh-proxy-failed.service)',
  revert: undefined,
} as const;

export type RedirectVerb = keyof typeof VERBS;

const lines = Object.entries(VERBS).flatMap(([verb, does]) =>
  does === undefined ? [] : `  ${verb.padEnd(14)}${does}`,
);

/** `mesh-agent redirect --help`. */
export const REDIRECT_USAGE = `usage: mesh-agent redirect VERB [OPTIONS], as root

Commands:
${lines.join('\n')}

Options:
  --config FILE           default /etc/mesh/agent.yaml
  --spec FILE             what is asked for; default spec.json in RUN_DIR/redirect
  --result FILE           where the answer goes; default result.json beside it
  --state-dir DIR         what is remembered between runs; default RUN_DIR-redirect
  --revert-after SECONDS  rules that are new here go again unless confirmed; default 60, 0: they stay
  --dry-run               of apply and order: show, change nothing
  --help`;

/** Options, and one known verb, of `mesh-agent redirect ...`. Throws USAGE. */
export function parseRedirectArguments(argv: readonly string[]) {
  const text = { type: 'string' } as const;
  const options = {
    config: text,
    spec: text,
    result: text,
    'state-dir': text,
    'revert-after': text,
    id: text,
    'dry-run': { type: 'boolean' },
  } as const;
  let parsed: ReturnType<typeof parseArgs<{ options: typeof options; allowPositionals: true }>>;
  try {
    parsed = parseArgs({ args: [...argv], options, allowPositionals: true });
  } catch (cause) {
    // Its further sentences are about quoting that nobody meant.
    throw new MeshError('USAGE', errorLine(cause).replace(/\. .*$/, ''));
  }
  const { values, positionals } = parsed;
  const [verb, ...more] = positionals;
  if (verb === undefined) throw new MeshError('USAGE', 'a verb is missing');
  if (more.length > 0) throw new MeshError('USAGE', `unexpected ${more[0]}`);
  if (!Object.hasOwn(VERBS, verb)) throw new MeshError('USAGE', `unknown verb ${verb}`);
  return { values, verb: verb as RedirectVerb };
}

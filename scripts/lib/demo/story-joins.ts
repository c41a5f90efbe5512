/** Part 2, the other side: what does not get in, and what it is told. The joins are real ones, made on the plain machine. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createHostApi } from '../../../agent/controlplane/host-api.ts';
import { loadSvid, newKey } from '../../../agent/identity/svid-file.ts';
import { formatJoinString, parseJoinString } from '../../../api/http/join-string.ts';
import { type JoinToken, OPERATOR_API } from '../../../api/http/operator-api.ts';
import { createCsr } from '../../../api/identity/x509.ts';
import { statePaths } from '../../../controller/state-dir.ts';
import { pathsOf } from '../lab/paths.ts';
import { TRUST_DOMAIN } from '../lab/plan.ts';
import { check, must, type Run } from './run.ts';
import type { Step } from './story.ts';
import { HOST_NODE, onHost, type World } from './world.ts';

interface Attempt {
  readonly what: string;
  readonly joinString: string;
  /** What the agent must say. */
  readonly expected: RegExp;
  readonly nodeArgs?: readonly string[];
  /** Further lines of agent.yaml. */
  readonly config?: string;
}

/** Where a join on the plain machine keeps its state: the agent's user must be able to reach it. `lab down` takes it away. */
const joinFolder = (name: string): string => join(pathsOf('plain').dir, name);

/** `mesh-agent join` on the plain machine, in folders of its own. */
async function tryJoin(world: World, name: string, attempt: Omit<Attempt, 'what' | 'expected'>): Promise<Run> {
  const folder = joinFolder(name);
  mkdirSync(dirname(folder), { recursive: true, mode: 0o755 });
  const config = `${folder}.yaml`;
  writeFileSync(config, `stateDir: ${folder}/state\nrunDir: ${folder}/run\n${attempt.config ?? ''}`, { mode: 0o644 });
  const command = [HOST_NODE, ...(attempt.nodeArgs ?? []), onHost('agent/main.ts'), 'join', '--config', config];
  return world.on('plain', undefined, command, { input: attempt.joinString });
}

/** Tries to join and gives the one line that says why not. Throws when the join goes through or the cause is another. */
async function refusedJoin(world: World, attempt: Attempt): Promise<string> {
  const { what, expected } = attempt;
  const result = await tryJoin(world, what.replaceAll(' ', '-'), attempt);
  const words = result.stderr.trim();
  check(result.code !== 0, `${what}: the join went through`);
  check(words.split('\n').length === 1, `${what}: the cause takes more than one line: ${words}`);
  check(expected.test(words), `${what}: expected ${expected}, the agent said: ${words.slice(0, 400)}`);
  const secret = parseJoinString(attempt.joinString).secret;
  check(!words.includes(secret), `${what}: the agent prints the secret`);
  return `${what}: ${words.replace(/^mesh-agent: /, '')}`;
}

async function tokenFor(world: World, host: string): Promise<string> {
  return must(await world.meshctl(['token', 'create', '--host', host]), 'token create').stdout.trim();
}

/** A join string that has expired. It was good for one second: meshctl gives none so short, REST does. */
async function expiredToken(world: World, host: string): Promise<string> {
  const body = {
    apiVersion: OPERATOR_API.groupVersion,
    kind: 'JoinToken',
    spec: { host, workloadGroups: [], ttlSeconds: 1 },
  };
  const answer = await world.rest('POST', OPERATOR_API.joinTokens, body);
  check(answer.status === 201, `POST jointokens answered ${answer.status}: ${answer.body.slice(0, 300)}`);
  const { joinString = '', expires = '' } = (JSON.parse(answer.body) as JoinToken).status ?? {};
  await world.until(() => Date.now() > Date.parse(expires), 'the token expires', 20_000, 20);
  return joinString;
}

/** A host that joined asks for the certificate of a workload that it was not granted, past its own agent's check. */
async function ungrantedWorkload(world: World, stateDir: string): Promise<string> {
  const svid = await loadSvid(join(stateDir, 'identity/host.pem'));
  check(svid !== undefined, 'the host that joined has no SVID');
  const [url = ''] = parseJoinString(await tokenFor(world, 'x3')).controllers;
  const intermediate = readFileSync(join(statePaths(pathsOf('ctl1').stateDir).ca, 'ca-intermediate.pem'), 'utf8');
  const api = createHostApi({
    replicas: () => [[url]],
    trust: () => ({ intermediates: [intermediate], trustDomain: TRUST_DOMAIN }),
    identity: () => svid,
    now: Date.now,
  });
  try {
    const requests = [{ kind: 'workload', group: 'default/reviews-v1', csr: createCsr(newKey()) }] as const;
    const [result] = (await api.svids({ requests })).results;
    check(result !== undefined && 'code' in result, 'a host got the certificate of a workload not granted to it');
    return `workload not granted: ${result.message}`;
  } finally {
    api.close();
  }
}

async function refusals(world: World, note: (line: string) => void): Promise<void> {
  const [used, expired] = await Promise.all([tokenFor(world, 'x1'), expiredToken(world, 'x2')]);
  const parsed = parseJoinString(used);
  const otherRoot = createHash('sha256').update('another mesh').digest('hex');
  const skew = 'data:text/javascript,const n=Date.now;Date.now=()=>n()-864e5';
  const binding = 'workloads: [{group: default/reviews-v1, user: nobody}]\n';
  const attempts: readonly Attempt[] = [
    {
      what: 'wrong secret',
      joinString: formatJoinString({ ...parsed, secret: 'A'.repeat(32) }),
      expected: /secret is wrong/,
    },
    { what: 'wrong root', joinString: formatJoinString({ ...parsed, rootSha256: otherRoot }), expected: /root/i },
    { what: 'clock a day off', joinString: used, expected: /clock/i, nodeArgs: ['--import', skew] },
    { what: 'binding not granted', joinString: used, expected: /not grant/, config: binding },
    { what: 'expired', joinString: expired, expected: /expired/ },
  ];
  // None of these spends a token; x1 joins beside them.
  const [first, ...lines] = await Promise.all([
    tryJoin(world, 'x1', { joinString: used }),
    ...attempts.map((attempt) => refusedJoin(world, attempt)),
  ]);
  must(first, 'the first use of a join string');
  for (const line of lines) note(line);
  note(await refusedJoin(world, { what: 'used', joinString: used, expected: /already used/ }));
  note(await ungrantedWorkload(world, `${joinFolder('x1')}/state`));
}

export const joinSteps: readonly Step[] = [
  {
    part: 2,
    name: 'join-refusals',
    title:
      'used, expired, wrong and foreign join strings, a wrong clock, a workload not granted: refused, the cause in one line',
    run: refusals,
  },
];

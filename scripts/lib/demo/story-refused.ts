/** Part 7: one object that Envoy refuses among three. It is named, keeps its last good version, and holds nobody else back. */
import { restartAgents } from './agents.ts';
import { check, must } from './run.ts';
import type { Step } from './story.ts';
import { nodeOf } from './topology.ts';
import { HOSTS, type World } from './world.ts';

const NAMES = ['one', 'bad', 'two'] as const;
type Name = (typeof NAMES)[number];

/** A server outside the mesh by three names, each with a VirtualService that marks its answers: `marks` by name. */
function threeServices(marks: Readonly<Record<Name, string>>): string {
  return NAMES.map(
    (name) => `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: story-${name}, namespace: default}
spec:
  hosts: [${name}.story.test]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{address: ${nodeOf('plain').ip4}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: story-${name}, namespace: default}
spec:
  hosts: [${name}.story.test]
  http:
    - headers: {response: {set: {x-story: "${marks[name]}"}}}
      route: [{destination: {host: ${name}.story.test}}]
---
`,
  ).join('');
}

/** A server name as long as this is Istio's to allow and Envoy's to refuse: its limit is 255 bytes. */
const REFUSED = `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: story-bad, namespace: default}
spec:
  host: bad.story.test
  trafficPolicy: {tls: {mode: SIMPLE, sni: ${'a'.repeat(300)}}}
`;

/** Marks of the answers as a client on `host` sees them. */
async function marks(world: World, host: string, user: string): Promise<Record<Name, string>> {
  const ask = async (name: Name): Promise<[Name, string]> => {
    const command = ['curl', '-s', '-m', '5', '-o', '/dev/null', '-D', '-', `http://${name}.story.test:8080/`];
    const { stdout } = await world.on(host, user, command);
    return [name, /^x-story: (.*?)\r?$/m.exec(stdout)?.[1] ?? stdout.split('\r\n')[0] ?? ''];
  };
  return Object.fromEntries(await Promise.all(NAMES.map(ask))) as Record<Name, string>;
}

async function untilMarked(
  world: World,
  wanted: Readonly<Record<Name, string>>,
  when: string,
  [host, user] = ['a', 'hm-client'],
): Promise<void> {
  let seen: Record<Name, string> | undefined;
  await world.until(
    async () => {
      seen = await marks(world, host, user);
      return NAMES.every((name) => seen?.[name] === wanted[name]);
    },
    () => `${when}: expected ${JSON.stringify(wanted)}, seen ${JSON.stringify(seen)}`,
    30_000,
  );
}

async function refusedByEnvoy(world: World, note: (line: string) => void): Promise<void> {
  await world.apply(threeServices({ one: 'first', bad: 'first', two: 'first' }));
  await world.settled();
  await untilMarked(world, { one: 'first', bad: 'first', two: 'first' }, 'three good objects');
  await world.apply(`${threeServices({ one: 'second', bad: 'first', two: 'second' })}${REFUSED}`);
  const live = { one: 'second', bad: 'first', two: 'second' };
  await untilMarked(world, live, 'one bad among three');
  await named(world, note);
  await restartAndDelete(world, live);
  note(
    'after agent restarts the bad one still has its last good version; all three deleted, no Envoy lists any of them',
  );
}

/** `meshctl describe` names host, resource, object and Envoy's words, for the host and for the object. */
async function named(world: World, note: (line: string) => void): Promise<void> {
  let text = '';
  await world.until(
    async () => {
      text = must(await world.meshctl(['describe', 'a']), 'meshctl describe').stdout;
      return text.includes('Refused by Envoy');
    },
    () => `meshctl describe a names what was refused: ${text}`,
    30_000,
  );
  const refused = text.slice(text.indexOf('Refused by Envoy'));
  check(/DestinationRule\/default\/story-bad/.test(refused), `describe a does not name the object: ${refused}`);
  check(/Cluster/.test(refused), `describe a does not name the resource: ${refused}`);
  check(/255 bytes/.test(refused), `describe a does not repeat Envoy's words: ${refused}`);
  check(!/story-(one|two)/.test(refused), `describe a blames the good ones: ${refused}`);
  const object = must(await world.meshctl(['describe', 'destinationrule', 'story-bad']), 'meshctl describe').stdout;
  for (const host of HOSTS) check(object.includes(`# Refused on ${host}:`), `describe of the object names no ${host}`);
  note(
    refused
      .trim()
      .split('\n')
      .slice(1, 4)
      .map((line) => line.trim())
      .join(' '),
  );
}

/** b's and c's agents are restarted before the deletion; a's is dead while it happens and comes back to what Envoy should no longer have. */
async function restartAndDelete(world: World, live: Readonly<Record<Name, string>>): Promise<void> {
  must(await world.lab('kill', 'a', 'agent', '--stay-down'), 'kill a agent');
  await restartAgents(world, ['b', 'c']);
  await untilMarked(world, live, 'after the restart of the agent', ['b', 'hm-reviews']);
  const names = NAMES.map((name) => `story-${name}`);
  const deletions = await Promise.all([
    world.meshctl(['delete', 'virtualservice', ...names]),
    world.meshctl(['delete', 'serviceentry', ...names]),
    world.meshctl(['delete', 'destinationrule', 'story-bad']),
  ]);
  for (const deleted of deletions) must(deleted, 'meshctl delete');
  must(await world.lab('start', 'a', 'agent'), 'start a agent');
  let left = '';
  await world.until(
    async () => {
      const dumps = await Promise.all(HOSTS.map((host) => world.envoy(host, '/config_dump?include_eds')));
      left = HOSTS.filter((_, i) => dumps[i]?.includes('story.test') || dumps[i]?.includes('x-story')).join(', ');
      return left === '';
    },
    () => `no Envoy lists anything of the deleted three; still on ${left}`,
    60_000,
  );
}

export const refusedStep: Step = {
  part: 7,
  name: 'refused-by-envoy',
  title:
    'one bad config among three: named with host, resource and words of Envoy; the other two go live; deletion leaves none',
  run: refusedByEnvoy,
};

/** Part 11: the mesh leaves its hosts, and every host is as it was. */
import { firstDifference, hostState } from './host-state.ts';
import { check, must } from './run.ts';
import type { Step } from './story.ts';
import { before } from './story-up.ts';
import { HOSTS, type World } from './world.ts';

async function down(world: World, note: (line: string) => void): Promise<void> {
  await Promise.all(HOSTS.map(async (host) => must(await world.lab('stop', host, 'agent'), `stop ${host} agent`)));
  for (const host of HOSTS) {
    const saved = before.get(host);
    check(saved?.includes('FOREIGN') === true, `no rules of ${host} were saved`);
    const difference = firstDifference(saved ?? '', await hostState(world, host));
    check(difference === undefined, `${host} is not as it was before the mesh, ${difference}`);
  }
  note(
    'iptables-save, ip6tables-save, routes and loopback addresses of a, b and c: byte for byte as before, foreign rules among them',
  );
}

export const downStep: Step = {
  part: 11,
  name: 'down',
  title: 'taken down: rules, routes and addresses of each host are byte for byte what they were',
  run: down,
};

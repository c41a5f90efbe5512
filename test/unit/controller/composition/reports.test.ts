import t from 'tap';
import type { HostStatus } from '../../../../api/http/agent-api.ts';
import { createReports, parseHostStatus } from '../../../../controller/reports.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';

const REFUSED = {
  typeUrl: 'type.googleapis.com/envoy.config.listener.v3.Listener',
  resource: 'outbound_1',
  origins: ['VirtualService/default/web'],
  message: 'no such command',
  generation: 7,
};
const STATUS: HostStatus = {
  host: 'a',
  agentVersion: '0.1.0',
  capability: 1,
  generation: 8,
  ackedGeneration: 7,
  envoyConnected: true,
  refused: [REFUSED],
  workloads: [
    { group: 'default/web', health: 'up' },
    {
      group: 'default/db',
      health: 'up',
      spiffeId: 'spiffe://t/ns/default/sa/db',
      svidNotAfter: '2026-12-01T00:00:00Z',
    },
  ],
  peers: { alive: 2, suspect: 0, dead: 1, links: ['b', 'c'] },
  problems: ['Envoy is not connected'],
  gossipRefused: [
    { host: 'c', reason: 'group-not-granted', count: 2, lastAt: '2026-12-01T00:00:00Z', detail: 'default/pay' },
    { host: 'd', reason: 'hostile', count: 1, lastAt: '2026-12-01T00:00:00Z' },
  ],
};

t.test('a status as the contract has it passes whole; what the contract lacks is dropped', async (t) => {
  t.same(parseHostStatus(STATUS), STATUS);
  const { gossipRefused: _, ...older } = { ...STATUS, peers: { alive: 2, suspect: 0, dead: 1 } };
  t.same(parseHostStatus(older), older, 'an older agent’s');
  const newer = {
    ...STATUS,
    news: { of: 'a newer agent' },
    reportedAt: '1999-01-01T00:00:00Z',
    workloads: [{ group: 'g/w', health: 'up', token: 'x' }],
  };
  t.same(parseHostStatus(newer), { ...STATUS, workloads: [{ group: 'g/w', health: 'up' }] });
});

t.test('what a host may send instead: refused with the field named', async (t) => {
  const cases: [body: unknown, field: string][] = [
    [null, 'status'],
    ['status', 'status'],
    [[STATUS], 'status'],
    [{ ...STATUS, host: 7 }, 'host'],
    [{ ...STATUS, agentVersion: undefined }, 'agentVersion'],
    [{ ...STATUS, generation: -1 }, 'generation'],
    [{ ...STATUS, generation: 1.5 }, 'generation'],
    [{ ...STATUS, ackedGeneration: '7' }, 'ackedGeneration'],
    [{ ...STATUS, capability: Number.MAX_VALUE }, 'capability'],
    [{ ...STATUS, envoyConnected: 'yes' }, 'envoyConnected'],
    [{ ...STATUS, peers: [] }, 'peers'],
    [{ ...STATUS, peers: { alive: 1, suspect: 0 } }, 'peers.dead'],
    [{ ...STATUS, peers: { ...STATUS.peers, links: 'b' } }, 'peers.links'],
    [{ ...STATUS, gossipRefused: [{ host: 'c', reason: 'x', count: 1 }] }, 'gossipRefused.lastAt'],
    [{ ...STATUS, gossipRefused: [{ host: 'c', reason: 'x', count: -1, lastAt: '' }] }, 'gossipRefused.count'],
    [{ ...STATUS, problems: 'none' }, 'problems'],
    [{ ...STATUS, problems: [{}] }, 'problems'],
    [{ ...STATUS, refused: { length: 1e9 } }, 'refused'],
    [{ ...STATUS, refused: [null] }, 'refused'],
    [{ ...STATUS, refused: [{ ...REFUSED, origins: 'x' }] }, 'refused.origins'],
    [{ ...STATUS, refused: [{ ...REFUSED, message: 1 }] }, 'refused.message'],
    [{ ...STATUS, workloads: [{ group: 'g/w' }] }, 'workloads.health'],
    [{ ...STATUS, workloads: [{ group: 'g/w', health: 'up', svidNotAfter: 5 }] }, 'workloads.svidNotAfter'],
  ];
  for (const [body, field] of cases)
    t.throws(() => parseHostStatus(body), { code: 'BODY_INVALID', message: new RegExp(`^${field}: `) }, field);
});

t.test('lengths are bounded', async (t) => {
  const many = parseHostStatus({
    ...STATUS,
    problems: Array.from({ length: 1000 }, () => 'p'.repeat(10_000)),
    refused: Array.from({ length: 1000 }, () => ({ ...REFUSED, message: 'm'.repeat(10_000) })),
    workloads: Array.from({ length: 1000 }, () => ({ group: 'g/w', health: 'up' })),
  });
  t.same([many.problems.length, many.refused.length, many.workloads.length], [50, 100, 200]);
  t.equal(many.problems[0]?.length, 512);
  t.equal(many.refused[0]?.message.length, 2048, 'Envoy’s own words, 2 KiB');
});

t.test('the memory of all reports is bounded: the one not renewed for the longest time goes', async (t) => {
  const clock = createFakeClock();
  const reports = createReports(clock, 3 * JSON.stringify(STATUS).length + 10);
  for (const host of ['a', 'b', 'c']) reports.put({ ...STATUS, host });
  await clock.advance(1000);
  reports.put({ ...STATUS, host: 'a', generation: 9 });
  t.match(reports.get('a'), { at: clock.now(), status: { generation: 9 } }, 'renewed');
  reports.put({ ...STATUS, host: 'd' });
  t.equal(reports.get('b'), undefined, 'the oldest is gone');
  for (const host of ['a', 'c', 'd']) t.ok(reports.get(host), host);
  reports.forget('a');
  reports.put({ ...STATUS, host: 'e' });
  for (const host of ['c', 'd', 'e']) t.ok(reports.get(host), `${host} after a was forgotten`);
  reports.put({ ...STATUS, host: 'big', problems: Array.from({ length: 50 }, () => 'x'.repeat(500)) });
  t.ok(reports.get('big'), 'the last word is always kept');
  t.equal(reports.get('e'), undefined);
});

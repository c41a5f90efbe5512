// What follows from verdicts on others and accusations of this host; who is dead is detector.test.ts's matter.
import { generateKeyPairSync } from 'node:crypto';
import { Registry } from 'prom-client';
import t from 'tap';
import { createGossipMetrics } from '../../../../agent/gossip/metrics.ts';
import { createVerdicts } from '../../../../agent/gossip/verdicts.ts';
import type { HostRecord, Liveness } from '../../../../api/gossip/host-record.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';

function room() {
  const clock = createFakeClock();
  const registry = new Registry();
  const rows = new Map<string, { liveness: Liveness; record: { epoch: number; counter: number; probeKey: string } }>([
    ['b', { liveness: 'alive', record: { epoch: 1, counter: 4, probeKey: 'k' } }],
  ]);
  const events: string[] = [];
  const table = {
    get: (host: string) => rows.get(host),
    setLiveness(host: string, liveness: Liveness) {
      const row = rows.get(host);
      if (row === undefined || row.liveness === liveness) return false;
      row.liveness = liveness;
      return true;
    },
  };
  const verdicts = createVerdicts({
    host: 'a',
    table: table as never,
    metrics: createGossipMetrics(registry),
    identity: () => ({ chainPem: '', privateKey: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey }),
    lastAnswerAt: () => 1000,
    own: () => ({
      current: () => ({ counter: 7 }) as HostRecord,
      renew: async (above) => void events.push(`renewed above ${above}`),
    }),
    onDead: (host) => events.push(`${host} dead`),
    onBack: (host) => events.push(`${host} back`),
    publish: async () => void events.push('published'),
    onChanged: () => events.push('changed'),
    clock,
    log: silentLogger,
  });
  const metric = async (name: string) => {
    const found = (await registry.getMetricsAsJSON()).find((one) => one.name === `mesh_agent_gossip_${name}`);
    return found?.values.reduce((sum, { value }) => sum + value, 0) ?? 0;
  };
  return { clock, rows, events, verdicts, metric };
}

t.test('dead: its link goes; back as the same: a false death, and it is reached again', async (t) => {
  const { events, verdicts, metric, rows } = room();
  verdicts.onVerdict('b', 'dead', 'silent');
  t.same(events.splice(0), ['b dead', 'changed']);
  verdicts.onVerdict('b', 'dead', 'silent');
  verdicts.onVerdict('nobody', 'dead', 'silent');
  t.same(events, [], 'nothing is otherwise');
  verdicts.onVerdict('b', 'alive', 'answers');
  t.same(events.splice(0), ['b back', 'changed']);
  t.equal(await metric('false_deaths_total'), 1);
  verdicts.onVerdict('b', 'dead', 'silent');
  rows.get('b')!.record.probeKey = 'after a reboot';
  verdicts.onVerdict('b', 'alive', 'answers');
  verdicts.onVerdict('b', 'dead', 'silent');
  verdicts.forget('b');
  verdicts.onVerdict('b', 'alive', 'answers');
  t.equal(await metric('false_deaths_total'), 1, 'rebooted, or forgotten: it was dead');
});

t.test('accused: refuted with a higher incarnation, once in 30 s, and only of the record that stands', async (t) => {
  const { clock, events, verdicts } = room();
  verdicts.refute('c', 6);
  t.same(events, [], 'an accusation of an older record');
  verdicts.refute('c', 7);
  verdicts.refute('d', 7);
  t.same(events, ['renewed above 7']);
  await clock.advance(30_000);
  verdicts.refute('d', 7);
  t.same(events, ['renewed above 7', 'renewed above 7']);
});

t.test('nobody accuses a host of whom there is no record', async (t) => {
  const { events, verdicts } = room();
  await verdicts.accuse('nobody');
  t.same(events, []);
});

import { Registry } from 'prom-client';
import t from 'tap';
import { createGossipMetrics } from '../../../../agent/gossip/metrics.ts';
import { createRefusals } from '../../../../agent/gossip/refusals.ts';
import { createUpkeep } from '../../../../agent/gossip/upkeep.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createFakeClock } from '../../../fakes/fake-clock.ts';

function room() {
  const clock = createFakeClock();
  const refusals = createRefusals(clock.now);
  const events: string[] = [];
  const state = { expired: false, keeps: (_host: string) => true };
  const rows = new Map(
    ['b', 'c'].map((host) => [host, { liveness: 'alive', record: { host, network: host === 'b' ? 'here' : 'far' } }]),
  );
  const table = {
    get: (host: string) => rows.get(host),
    rows: () => rows.values(),
    get size() {
      return rows.size;
    },
    retain(keeps: (row: unknown) => boolean) {
      const gone = [...rows].filter(([, row]) => !keeps(row)).map(([host]) => host);
      for (const host of gone) rows.delete(host);
      return gone;
    },
  };
  const upkeep = createUpkeep({
    table: table as never,
    admission: {
      checkLinks: () => events.push('links'),
      anyExpired: () => state.expired,
      keeps: (row) => state.keeps(row.record.host),
    },
    metrics: createGossipMetrics(new Registry()),
    refusals,
    own: () => ({
      reconsider: async () => void events.push('own record'),
      fields: () => ({ network: 'here', addresses: [], workloads: [] }),
    }),
    parked: () => 0,
    onDropped: (host) => events.push(`${host} dropped`),
    onChanged: () => events.push('changed'),
    clock,
    log: silentLogger,
  });
  return { clock, events, state, upkeep, refusals };
}

t.test('links every 5 s, the own record every minute; who may not stay goes at the next of them', async (t) => {
  const { clock, events, state, upkeep } = room();
  const seconds = async (count: number) => {
    events.length = 0;
    for (let i = 0; i < count; i++) {
      await clock.advance(1000);
      upkeep.tick();
    }
    return events;
  };
  upkeep.tick();
  t.same(events, ['links', 'own record']);
  t.same(await seconds(5), ['links']);
  state.keeps = (host) => host !== 'b';
  t.same(await seconds(5), ['links'], 'no certificate has ended');
  state.expired = true;
  t.same(await seconds(5), ['links', 'b dropped', 'changed']);
  state.expired = false;
  state.keeps = () => false;
  t.same((await seconds(45)).slice(-3), ['c dropped', 'changed', 'own record'], 'and each minute all the same');
});

t.test('an address that does not answer: a false claim in the own network only', async (t) => {
  const { upkeep, refusals } = room();
  upkeep.onUnproven('b', '10.0.0.2');
  upkeep.onUnproven('c', '10.9.0.2');
  upkeep.onUnproven('nobody', '10.0.0.3');
  t.match(refusals.list(), [{ host: 'b', reason: 'address-unproven' }]);
  t.equal(refusals.list().length, 1);
});

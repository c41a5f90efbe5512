import t from 'tap';
import { createOwnRecord } from '../../../../agent/gossip/own-record.ts';
import type { VerifiedRecord } from '../../../../agent/gossip/trust.ts';
import { openEnvelope, verifyEnvelope } from '../../../../api/gossip/envelope.ts';
import type { HostGrant } from '../../../../api/signed-config/desired-config.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { createTestCa } from '../../../builders/test-ca.ts';

const ca = createTestCa();

function room() {
  const out: VerifiedRecord[] = [];
  const warnings: string[] = [];
  let count = 0;
  const state = {
    identity: ca.host('h1'),
    grant: { host: 'h1', epoch: 3, workloadGroups: ['default/web'], gossipAddresses: [] } as HostGrant | undefined,
  };
  const own = createOwnRecord({
    host: 'h1',
    probeKey: Buffer.alloc(32, 9).toString('base64'),
    gossipAddresses: ['10.0.0.1:15300'],
    identity: () => state.identity,
    grant: () => state.grant,
    counter: {
      next: async () => ++count,
      raise: (seen) => {
        count = Math.max(count, seen);
      },
    },
    publish: async (v) => void out.push(v),
    log: { ...silentLogger, warn: (message) => void warnings.push(message) },
  });
  return { own, out, warnings, state };
}

const fields = {
  network: 'default',
  addresses: ['10.0.0.1'],
  workloads: [{ group: 'default/web', health: 'healthy' as const }],
};

t.test('published on change only, each time with a higher counter, signed', async (t) => {
  const { own, out, state } = room();
  await own.set(fields);
  await own.set({ ...fields });
  await own.reconsider();
  t.equal(out.length, 1);
  await own.set({ ...fields, addresses: ['10.0.0.2'] });
  t.same(
    out.map((v) => [v.record.epoch, v.record.counter]),
    [
      [3, 1],
      [3, 2],
    ],
  );
  t.ok(verifyEnvelope(openEnvelope(out[1]!.envelope.bytes, 'record'), state.identity.leaf.publicKey));
});

t.test('a renewed SVID, another epoch or grant makes a new record', async (t) => {
  const { own, out, state } = room();
  await own.set(fields);
  state.identity = ca.host('h1');
  await own.reconsider();
  state.grant = { ...state.grant!, epoch: 4 };
  await own.reconsider();
  t.same(
    out.map((v) => v.record.epoch),
    [3, 3, 4],
  );
});

t.test('without a grant nothing is said; an ungranted group is left out and named', async (t) => {
  const { own, out, warnings, state } = room();
  const grant = state.grant;
  state.grant = undefined;
  await own.set({ ...fields, workloads: [...fields.workloads, { group: 'default/pay', health: 'healthy' }] });
  t.equal(out.length, 0);
  t.match(warnings[0], /no grant/);
  state.grant = grant;
  await own.reconsider();
  await own.reconsider();
  t.same(
    out[0]?.record.workloads.map((w) => w.group),
    ['default/web'],
  );
  t.equal(warnings.length, 2, 'said once');
});

t.test('it goes above what a neighbour holds', async (t) => {
  const { own, out } = room();
  await own.renew(90);
  t.equal(out.length, 0, 'nothing to publish yet');
  await own.set(fields);
  await own.renew(500);
  t.same(
    out.map((v) => v.record.counter),
    [91, 501],
  );
});

t.test('many changes at once come out in order', async (t) => {
  const { own, out } = room();
  await Promise.all(Array.from({ length: 20 }, (_, i) => own.set({ ...fields, network: `n${i}` })));
  t.equal(out.at(-1)?.record.network, 'n19');
  t.ok(out.every((v, i) => i === 0 || v.record.counter > out[i - 1]!.record.counter));
});

t.test('an own record that others would drop is not published', async (t) => {
  const { own, out } = room();
  await own.set({ ...fields, addresses: ['10.0.0.01'] });
  t.equal(out.length, 0);
  await own.set(fields);
  t.equal(out.length, 1, 'and the next one is');
});

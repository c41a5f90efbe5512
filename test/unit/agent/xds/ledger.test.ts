import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { XdsResource } from '../../../../agent/translate/resource-set.ts';
import { createLedger, type LedgerState, MAX_RETRY_MS, RETRY_MS } from '../../../../agent/xds/ledger.ts';
import { loadLedger, saveLedger } from '../../../../agent/xds/ledger-file.ts';
import { secretEntry } from '../../../../agent/xds/secrets.ts';
import { createEntry, createSnapshotCache, type Snapshot } from '../../../../agent/xds/snapshot-cache.ts';
import type { Logger } from '../../../../runtime/log.ts';
import { silentLogger } from '../../../../runtime/log.ts';
import { cluster, endpoint, messages, proxy, resourceSet, route } from '../../../builders/xds.ts';

const entry = (resource: XdsResource) => createEntry(messages, resource);
const snapshotOf = (...resources: readonly XdsResource[]): Snapshot =>
  createSnapshotCache(messages).next(resourceSet(1, resources));
const names = (state: LedgerState | undefined) => state?.lastGood.map(({ type, name }) => `${type} ${name}`);

test('names of clusters and listeners are remembered until their removal was taken; each change is given once', async (t) => {
  const ledger = createLedger();
  t.equal(ledger.takeChanged(), undefined, 'nothing to write');
  ledger.sending([entry(cluster('b')), entry(cluster('a')), entry(endpoint('a', 1)), entry(route('r', 'a'))]);
  t.strictSame(ledger.takeChanged()?.everSent, { cluster: ['a', 'b'], listener: [] });
  ledger.sending([entry(cluster('a', '2s'))]);
  t.equal(ledger.takeChanged(), undefined, 'a known name');
  ledger.removed('cluster', 'a');
  ledger.removed('cluster', 'never');
  t.strictSame(ledger.takeChanged()?.everSent.cluster, ['b']);
  t.strictSame(
    [...createLedger(ledgerState({ everSent: { cluster: ['x'], listener: ['y'] } })).everSent('listener')],
    ['y'],
  );
});

function ledgerState(part: Partial<LedgerState>): LedgerState {
  return { everSent: { cluster: [], listener: [] }, lastGood: [], unsure: [], ...part };
}

test('what is refused, and which version is good', async (t) => {
  const [v1, v2, v3] = ['1s', '2s', '3s'].map((timeout) => entry(cluster('a', timeout)));
  if (v1 === undefined || v2 === undefined || v3 === undefined) throw new Error('three');
  const ledger = createLedger();
  ledger.accepted(v1);
  ledger.refused(v2, 'x'.repeat(5000), 7, 0);
  t.equal(ledger.isRefused(v2), true);
  t.equal(ledger.isRefused(v1), false);
  t.equal(ledger.lastGood('cluster', 'a'), v1);
  t.match(ledger.refusals(), [{ entry: v2, generation: 7, times: 1 }]);
  t.equal(ledger.refusals()[0]?.message.length, 2048, 'Envoy’s words are bounded');
  t.strictSame(names(ledger.takeChanged()), ['cluster a'], 'the good one is written');
  ledger.accepted(v1);
  t.equal(ledger.isRefused(v2), true, 'the good one taken once more changes nothing');
  ledger.prune(snapshotOf(cluster('a', '3s')));
  t.strictSame(ledger.refusals(), [], 'another version is wanted: forgiven');
  t.equal(ledger.lastGood('cluster', 'a'), v1, 'the good one stays until the next was taken');
  ledger.accepted(v3);
  t.strictSame(names(ledger.takeChanged()), [], 'and is then needed on disk no more');
  ledger.refused(v3, 'no', 8, 0);
  t.equal(ledger.lastGood('cluster', 'a'), undefined, 'a version that was good and is refused is good no more');
  ledger.accepted(v1);
  ledger.notGood(v2);
  t.equal(ledger.lastGood('cluster', 'a'), v1, 'another version');
  ledger.notGood(v1);
  t.equal(ledger.lastGood('cluster', 'a'), undefined);
});

test('prune: what is wanted no more is forgotten; what cannot be encoded is wanted; origins follow the snapshot', async (t) => {
  const ledger = createLedger();
  for (const resource of [cluster('a'), cluster('b'), cluster('c')]) ledger.accepted(entry(resource));
  const svid = secretEntry(messages, 's', { trustedCaPem: 'x' });
  ledger.accepted(svid);
  const refused = entry(route('r', 'a', ['VirtualService/x/one']));
  ledger.refused(refused, 'no', 1, 0);
  ledger.prune(
    snapshotOf(cluster('a'), { ...cluster('b'), body: { typo: 1 } }, route('r', 'a', ['VirtualService/x/two'])),
  );
  t.strictSame(
    ['a', 'b', 'c'].map((name) => ledger.lastGood('cluster', name) !== undefined),
    [true, true, false],
  );
  t.equal(ledger.lastGood('secret', 's'), svid, 'secrets come from elsewhere');
  t.strictSame(names(ledger.takeChanged()), ['cluster b'], 'a new agent can serve what cannot be encoded now');
  t.strictSame(ledger.refusals()[0]?.entry.origins, ['VirtualService/x/two']);
  t.equal(ledger.isRefused(refused), true);
});

test('retries: doubling up to a bound, a version at a time', async (t) => {
  const ledger = createLedger();
  const a = entry(cluster('a'));
  const b = entry(route('b', 'a'));
  t.equal(ledger.retryAt(), undefined);
  let now = 0;
  const waits: number[] = [];
  for (let i = 0; i < 8; i++) {
    ledger.refused(a, 'no', 1, now);
    const at = ledger.retryAt() as number;
    waits.push(at - now);
    t.strictSame([...ledger.retry(at - 1)], [], 'not yet');
    t.equal(ledger.isRefused(a), true);
    t.strictSame([...ledger.retry(at)], ['cluster']);
    t.equal(ledger.isRefused(a), false, 'being tried');
    t.ok((ledger.retryAt() as number) > at, 'the timer does not spin while Envoy thinks');
    now = at;
  }
  t.strictSame(
    waits,
    [1, 2, 4, 8, 16, 30, 30, 30].map((n) => n * RETRY_MS),
  );
  t.equal(waits.at(-1), MAX_RETRY_MS);
  ledger.refused(b, 'no', 1, now);
  t.equal(ledger.retryAt(), now + RETRY_MS, 'the next one due');
  t.strictSame([...ledger.retry(now + RETRY_MS)], ['route']);
  ledger.refused(entry(cluster('a', '2s')), 'no', 2, now);
  t.match(
    ledger.refusals().find((refusal) => refusal.entry.name === 'a'),
    { times: 1 },
    'another version starts anew',
  );
});

test('secrets are in no state to be written, and a rotation ends a refusal', async (t) => {
  const ledger = createLedger();
  const [one, two, three] = ['k1', 'k2', 'k3'].map((privateKeyPem) =>
    secretEntry(messages, 's', { certificateChainPem: 'c', privateKeyPem }),
  );
  if (one === undefined || two === undefined || three === undefined) throw new Error('three');
  ledger.sending([one, two]);
  ledger.accepted(one);
  ledger.refused(two, 'no', 1, 0);
  ledger.refusedTogether([two]);
  const state = ledger.takeChanged();
  t.strictSame(state?.lastGood, []);
  t.notMatch(JSON.stringify(state), /k1|k2|inline/);
  ledger.accepted(one);
  t.equal(ledger.isRefused(two), true);
  ledger.accepted(three);
  t.strictSame(ledger.refusals(), []);
});

test('what Envoy lists is believed only where it answered the last thing it was sent', async (t) => {
  const ledger = createLedger();
  const [a, b] = [entry(cluster('a')), entry(cluster('b'))];
  t.equal(ledger.isSure('cluster', 'a'), true, 'never sent by this agent');
  ledger.sending([a, b]);
  t.equal(ledger.isSure('cluster', 'a'), false);
  ledger.sure('cluster', 'a');
  t.equal(ledger.isSure('cluster', 'a'), true);
  t.strictSame(ledger.takeChanged()?.unsure, [], 'what is merely under way is not worth a file');
  ledger.refusedTogether([a, b]);
  const state = ledger.takeChanged();
  t.strictSame(state?.unsure, ['cluster a', 'cluster b']);
  t.equal(createLedger(state).isSure('cluster', 'b'), false, 'a new agent knows');
  ledger.sure('cluster', 'b');
  t.strictSame(ledger.takeChanged()?.unsure, ['cluster a']);
});

test('the file: what was saved is loaded; what cannot be loaded is said and left', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ledger-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'xds.json');
  const said: string[] = [];
  const log: Logger = { ...silentLogger, error: (message) => void said.push(message) };
  t.equal(loadLedger(path, log), undefined);
  t.strictSame(said, [], 'the first start is no error');
  const state = ledgerState({
    everSent: { cluster: ['a'], listener: ['l'] },
    lastGood: [entry(cluster('a')), entry(proxy('x', 'a')), entry(route('r', 'a', ['VirtualService/n/r']))],
    unsure: ['cluster a'],
  });
  saveLedger(path, state);
  t.equal(statSync(path).mode & 0o777, 0o640);
  const loaded = loadLedger(path, log);
  t.strictSame({ ...loaded, lastGood: loaded?.lastGood.map(plain) }, { ...state, lastGood: state.lastGood.map(plain) });
  t.equal(loaded?.lastGood[1]?.needsClusters, true);
  t.equal(loaded?.lastGood[0]?.edsName, 'a');
  const good = JSON.parse(readFileSync(path, 'utf8'));
  const { unsure, ...older } = good;
  t.strictSame(unsure, ['cluster a']);
  writeFileSync(path, JSON.stringify(older));
  t.strictSame(loadLedger(path, log)?.unsure, [], 'a file from before this field');
  for (const text of [
    '',
    '{',
    'null',
    '[]',
    JSON.stringify({ ...good, version: 2 }),
    JSON.stringify({ ...good, everSent: { cluster: 'a', listener: [] } }),
    JSON.stringify({ ...good, lastGood: [{ ...good.lastGood[0], type: 'secret' }] }),
    JSON.stringify({ ...good, lastGood: [{ ...good.lastGood[0], bytes: 1 }] }),
  ]) {
    said.length = 0;
    writeFileSync(path, text);
    t.equal(loadLedger(path, log), undefined, text);
    t.strictSame(said, ['not a ledger of what was sent to Envoy; starting anew'], text);
  }
  said.length = 0;
  t.equal(loadLedger(dir, log), undefined);
  t.strictSame(said, ['cannot read']);
});

function plain({ bytes, ...rest }: ReturnType<typeof entry>): unknown {
  return { ...rest, bytes: Buffer.from(bytes).toString('hex') };
}

import { generateKeyPairSync } from 'node:crypto';
import t from 'tap';
import {
  MAX_ENVELOPE_BYTES,
  MAX_PAYLOAD_BYTES,
  openEnvelope,
  sealEnvelope,
  verifyEnvelope,
} from '../../../../api/gossip/envelope.ts';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const leaf = Buffer.from('a certificate');
const payload = Buffer.from('what is said');

t.test('what was sealed opens and verifies', async (t) => {
  const opened = openEnvelope(sealEnvelope('record', payload, privateKey, leaf).bytes, 'record');
  t.same(Buffer.from(opened.payload), payload);
  t.same(Buffer.from(opened.leaf), leaf);
  t.ok(verifyEnvelope(opened, publicKey));
  t.notOk(verifyEnvelope(opened, generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey), 'another key');
});

t.test('a signature for one purpose is none for another', async (t) => {
  const sealed = sealEnvelope('record', payload, privateKey, leaf);
  t.throws(() => openEnvelope(sealed.bytes, 'accusation'), { code: 'ENVELOPE_INVALID' });
  t.notOk(verifyEnvelope({ ...sealed, kind: 'accusation' }, publicKey));
});

t.test('no single byte can change', async (t) => {
  const { bytes } = sealEnvelope('record', payload, privateKey, leaf);
  for (let i = 0; i < bytes.length - leaf.length; i++) {
    const changed = Buffer.from(bytes);
    changed[i] = (changed[i] as number) ^ 0x01;
    let ok = true;
    try {
      ok = verifyEnvelope(openEnvelope(changed, 'record'), publicKey);
    } catch {
      ok = false;
    }
    if (ok) t.fail(`byte ${i} changed and the envelope still verifies`);
  }
  t.pass('all tried');
});

t.test('bounds', async (t) => {
  const { bytes } = sealEnvelope('record', payload, privateKey, leaf);
  t.throws(() => sealEnvelope('record', new Uint8Array(MAX_PAYLOAD_BYTES + 1), privateKey, leaf), {
    code: 'ENVELOPE_TOO_LARGE',
  });
  t.throws(() => openEnvelope(new Uint8Array(MAX_ENVELOPE_BYTES + 1), 'record'), { code: 'ENVELOPE_INVALID' });
  t.throws(() => openEnvelope(bytes.subarray(0, bytes.length - 1), 'record'), { code: 'ENVELOPE_INVALID' });
  t.throws(() => openEnvelope(Buffer.concat([bytes, Buffer.of(0)]), 'record'), { code: 'ENVELOPE_INVALID' });
  t.throws(() => openEnvelope(new Uint8Array(0), 'record'), { code: 'ENVELOPE_INVALID' });
  const newer = Buffer.from(bytes);
  newer[0] = 2;
  t.throws(
    () => openEnvelope(newer, 'record'),
    { code: 'ENVELOPE_VERSION' },
    'a newer version is not the forwarder’s fault',
  );
});

t.test('the caller’s buffer is not kept', async (t) => {
  const { bytes } = sealEnvelope('record', payload, privateKey, leaf);
  const opened = openEnvelope(bytes, 'record');
  bytes.fill(0);
  t.same(Buffer.from(opened.payload), payload);
});

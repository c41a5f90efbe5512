import { test } from 'tap';
import { envoyWords } from '../../../../agent/xds/envoy-words.ts';

test('the reason is what an operator reads, however large the resource', async (t) => {
  const reason =
    'Proto constraint validation failed (RouteMatchValidationError.Name: value length must be at most 1024 bytes)';
  const long = 'x'.repeat(5000);
  const rows: [string, string, string][] = [
    ['short', 'malformed IP address: 1.2.3', 'malformed IP address: 1.2.3'],
    ['after the whole resource', `goo.gle/debugproto\nname: "${long}"\n: ${reason}`, reason],
    ['too long', `begin ${long} end`, `begin ${'x'.repeat(1013)} ... ${'x'.repeat(1020)} end`],
  ];
  for (const [what, message, words] of rows) t.equal(envoyWords(message), words, what);
  t.equal(envoyWords(`begin ${long} end`).length, 2048);
});

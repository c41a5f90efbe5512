/**
 * Stands in a controller's place: `impostor.ts CA_DIR REPLICA TRUST_DOMAIN PORT [ADDRESS FILE]...`. In: the replica's CA (stolen; the signing
 * keys are not), files. Out: TLS servers that agents take for their controller and that answer every question for config with the file of the
 * address that was asked. Ends when stdin does. For the story only.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { AGENT_API } from '../../../api/http/agent-api.ts';
import { loadAuthority } from '../../../controller/ca/authority.ts';

const [dir = '', replica = '', trustDomain = '', port = '', ...pairs] = process.argv.slice(2);
const authority = await loadAuthority(dir, trustDomain, replica);
for (let i = 0; i + 1 < pairs.length; i += 2) {
  const [address = '', file = ''] = pairs.slice(i);
  const { chainPem, keyPem } = authority.issueServer({ dnsNames: [], ipAddresses: [address] }, Date.now());
  const update = readFileSync(file);
  const server = createServer({ cert: chainPem, key: keyPem, minVersion: 'TLSv1.3' }, (request, response) => {
    request.resume();
    const path = (request.url ?? '').split('?')[0];
    if (path !== AGENT_API.config) return void response.writeHead(404).end();
    response.writeHead(200, { 'content-type': 'application/json' }).end(update);
  });
  server.listen(Number(port), address);
  await once(server, 'listening');
}
process.stdout.write('in place\n');
process.stdin.resume().once('end', () => process.exit(0));

/**
 * Stands in a controller's place: `impostor.ts CA_DIR REPLICA TRUST_DOMAIN ADDRESS PORT FILE`. In: the replica's CA (stolen; the signing keys
 * are not), a file. Out: a TLS server that agents take for their controller and that answers every question for config with the file's
 * content of that moment. Ends when stdin does. For the story only.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { AGENT_API } from '../../../api/http/agent-api.ts';
import { loadAuthority } from '../../../controller/ca/authority.ts';

const [dir = '', replica = '', trustDomain = '', address = '', port = '', file = ''] = process.argv.slice(2);
const authority = await loadAuthority(dir, trustDomain, replica);
const { chainPem, keyPem } = authority.issueServer({ dnsNames: [], ipAddresses: [address] }, Date.now());

const server = createServer({ cert: chainPem, key: keyPem, minVersion: 'TLSv1.3' }, (request, response) => {
  const path = (request.url ?? '').split('?')[0];
  request.resume();
  if (path !== AGENT_API.config) return void response.writeHead(404).end();
  response.writeHead(200, { 'content-type': 'application/json' }).end(readFileSync(file));
});
server.listen(Number(port), address, () => process.stdout.write('in place\n'));
process.stdin.resume().once('end', () => process.exit(0));

/** A stand-in for mesh-controller in tests of the lab: `init STATE IP` leaves token, CA and certificate; `run STATE` serves what `up` asks for, and keeps the calls in STATE/calls. */
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { OPERATOR_API } from '../../api/http/operator-api.ts';
import { createTestCa } from '../builders/test-ca.ts';

const [verb = '', state = '', address = ''] = process.argv.slice(2);
const file = (name: string) => join(state, name);

if (verb === 'init') {
  const ca = createTestCa();
  const server = ca.server([], [address]);
  writeFileSync(file('ca.pem'), ca.rootPem);
  writeFileSync(file('admin-token'), 'secret-of-the-admin\n', { mode: 0o600 });
  writeFileSync(file('server.json'), JSON.stringify({ cert: server.chainPem, key: server.privateKeyPem }), {
    mode: 0o600,
  });
} else {
  createServer(JSON.parse(readFileSync(file('server.json'), 'utf8')), (request, response) => {
    let text = '';
    request.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    request.once('end', () => {
      if (request.headers.authorization !== 'Bearer secret-of-the-admin') return response.writeHead(401).end();
      appendFileSync(file('calls'), `${JSON.stringify([request.method, request.url, text])}\n`);
      const { spec } = (text === '' ? {} : JSON.parse(text)) as { spec?: { host: string } };
      const joined = request.url === OPERATOR_API.joinTokens ? { status: { joinString: `mesh1.${spec?.host}` } } : {};
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(joined));
    });
  }).listen(15200, '::');
}

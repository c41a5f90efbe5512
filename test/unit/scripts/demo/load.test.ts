import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'tap';
import { asker, nameServers, startLoad } from '../../../../scripts/lib/load.ts';
import { until } from '../../../fakes/until.ts';

test('load is sent at its rate; what is no 200 is a failure with its cause', async (t) => {
  let requests = 0;
  const connections = new Set<unknown>();
  const server = createServer((request, response) => {
    requests += 1;
    connections.add(request.socket);
    response.writeHead(request.url === '/bad' ? 503 : 200).end('x');
  }).listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const good = startLoad(asker(`${url}/`), 200);
  await until(() => requests >= 20, '20 requests');
  const report = await good.stop();
  t.equal(report.failures, 0);
  t.equal(report.sent, requests, 'each is counted once');
  t.ok(connections.size >= requests / 2, 'half of them on connections of their own');
  t.ok(connections.size < requests, 'the others on kept ones');

  const before = requests;
  const bad = startLoad(asker(`${url}/bad`), 200);
  await until(() => requests >= before + 3, '3 requests');
  const failed = await bad.stop();
  t.equal(failed.failures, failed.sent);
  t.match(failed.failed[0], { why: 'status 503' });

  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  let asked = 0;
  const ask = asker(`${url}/`);
  const counted = () => {
    asked += 1;
    return ask();
  };
  const nobody = startLoad(counted, 200);
  await until(() => asked >= 3, '3 requests');
  const refused = await nobody.stop();
  t.equal(refused.failures, asked);
  for (const { why } of refused.failed) t.match(why, /ECONNREFUSED/);
});

test('name servers of resolv.conf', (t) => {
  t.strictSame(nameServers('# nameserver 1.1.1.1\nnameserver 10.0.0.1\noptions x\nnameserver  fd00::1\n'), [
    '10.0.0.1',
    'fd00::1',
  ]);
  t.end();
});

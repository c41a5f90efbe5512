/**
 * A stand-in for mesh-agent in tests of the lab. `join STATE` keeps the join string and writes a bootstrap; `run STATE RUN` answers on the
 * admin socket and on its first DNS socket, and asks for rules once; `redirect VERB RUN` notes who ran what in RUN-redirects.
 */
import { createSocket } from 'node:dgram';
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { ADMIN_API } from '../../api/http/admin-api.ts';

const [verb = '', state = '', run = ''] = process.argv.slice(2);
const uid = process.getuid?.();

if (verb === 'join') {
  writeFileSync(`${state}/joined`, readFileSync(0, 'utf8'));
  mkdirSync(`${state}/proxy`, { recursive: true });
  writeFileSync(`${state}/proxy/bootstrap.json`, '{}');
} else if (verb === 'redirect') {
  appendFileSync(`${run}-redirects`, `${state} by ${uid}\n`);
} else {
  const { LISTEN_FDS, LISTEN_PID } = process.env;
  const passed = Number(LISTEN_PID) === process.pid ? Number(LISTEN_FDS) : 0;
  createSocket('udp4')
    .on('message', function (this: ReturnType<typeof createSocket>, message, peer) {
      this.send(`echo ${message}`, peer.port, peer.address);
    })
    .bind({ fd: 3 });
  rmSync(`${run}/admin.sock`, { force: true });
  createServer((request, response) => {
    appendFileSync(`${state}/asked`, `${request.method} ${request.url}\n`);
    const body = {
      ready: true,
      problems: [],
      uid,
      passed,
      groups: process.getgroups?.(),
      coreLimit: limit('Max core file size'),
    };
    response.end(request.url === ADMIN_API.status ? JSON.stringify(body) : '');
  }).listen(`${run}/admin.sock`);
  writeFileSync(`${run}/redirect/spec.tmp`, '{}');
  renameSync(`${run}/redirect/spec.tmp`, `${run}/redirect/spec.json`);
}

function limit(name: string): string | undefined {
  const line = readFileSync('/proc/self/limits', 'utf8')
    .split('\n')
    .find((l) => l.startsWith(name));
  return line?.slice(name.length).trim().split(/\s+/)[0];
}

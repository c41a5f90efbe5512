/**
 * Stands in for systemd on a lab node, as root inside its namespace: runs the units, holds the DNS sockets (inherited from hold.ts as fds
 * 3...), runs the redirect oneshot when its spec is replaced, takes orders on a 0600 unix socket. Must never: die of a bad order, or give
 * a unit more than its user's rights.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, watch } from 'node:fs';
import { request } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import type { Answer, Order, SupervisorSpec } from './supervisor-spec.ts';
import { createUnit, type RootCommand, type Unit } from './unit.ts';

const [specPath = ''] = process.argv.slice(2);
const spec = JSON.parse(readFileSync(specPath, 'utf8')) as SupervisorSpec;
const units = new Map<string, Unit>(
  Object.entries(spec.units).map(([name, unit]) => [
    name,
    createUnit(unit, () => unit.onFailure !== undefined && void runToEnd(unit.onFailure)),
  ]),
);
let ending = false;
let rebooted = false; // power was lost; the next start is a boot

/** Runs a program as root to its end; resolves whatever its exit status, which is logged. */
function runToEnd({ argv, log, env }: RootCommand): Promise<void> {
  const out = openSync(log, 'a', 0o640);
  return new Promise((resolve) => {
    const [file = '', ...args] = argv;
    const child = spawn(file, args, { stdio: ['ignore', out, out], env, cwd: '/' });
    closeSync(out);
    child.once('error', (error) => {
      console.error(`${basename(log)}: ${error.message}`);
      resolve();
    });
    child.once('exit', (code, signal) => {
      if (code !== 0) console.error(`${basename(log)}: ${argv.join(' ')} ended with ${signal ?? code}`);
      resolve();
    });
  });
}

/** mesh-redirect.path and mesh-redirect.service: one run at a time, and once more when the spec changed meanwhile. */
function watchOneshot(oneshot: NonNullable<SupervisorSpec['oneshot']>): void {
  let running = false;
  let again = false;
  const fire = async () => {
    again = true;
    if (running) return;
    running = true;
    while (again) {
      again = false;
      if (existsSync(oneshot.path)) await runToEnd(oneshot);
    }
    running = false;
  };
  const folder = dirname(oneshot.path);
  mkdirSync(folder, { recursive: true });
  watch(folder, (_event, file) => {
    if (file === basename(oneshot.path) && existsSync(oneshot.path)) void fire();
  });
}

/** Asks the agent to withdraw its endpoints and drain; a dead agent is not waited for. */
function leave(socketPath: string, path: string): Promise<void> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path, method: 'POST', timeout: 8000 }, (response) => {
      response.resume();
      response.once('close', resolve);
    });
    asked.once('timeout', () => asked.destroy());
    asked.once('error', (error) => {
      console.error(`the agent could not leave: ${error.message}`);
      resolve();
    });
    asked.end();
  });
}

/** `systemctl stop mesh-agent`: leave, rules off, proxy and agent down, in this order, so that nothing is captured by a listener that is gone. */
async function stopAgent(): Promise<void> {
  const agent = units.get('agent') as Unit;
  if (spec.leave !== undefined) {
    if (agent.status().state === 'running') await leave(spec.leave.socket, spec.leave.path);
    await runToEnd(spec.leave.clean);
  }
  await units.get('proxy')?.stop();
  await agent.stop();
}

/** The first start after a power loss is a boot: the kernel has none of our rules any more and the folders on tmpfs are empty. */
async function boot(): Promise<void> {
  rebooted = false;
  if (spec.leave !== undefined) await runToEnd(spec.leave.clean);
  if (spec.runDir === undefined) return;
  for (const name of readdirSync(spec.runDir)) {
    if (spec.oneshot !== undefined && join(spec.runDir, name) === dirname(spec.oneshot.path))
      for (const inner of readdirSync(join(spec.runDir, name)))
        rmSync(join(spec.runDir, name, inner), { recursive: true, force: true });
    else rmSync(join(spec.runDir, name), { recursive: true, force: true });
  }
}

async function obey(order: Order): Promise<Answer> {
  if (order.do === 'end') {
    await Promise.all([...units.values()].map((unit) => unit.kill(true)));
    ending = true;
    return {};
  }
  if (order.do === 'status')
    return { units: Object.fromEntries([...units].map(([name, unit]) => [name, unit.status()])) };
  const names = order.unit === 'all' ? [...units.keys()] : [order.unit];
  const chosen = names.map((name) => units.get(name));
  if (chosen.some((unit) => unit === undefined))
    return { error: `no unit ${order.unit} on ${spec.name}; it has ${[...units.keys()].join(', ')}` };
  switch (order.do) {
    case 'start':
      if (rebooted) await boot();
      for (const unit of chosen) unit?.start();
      return {};
    case 'stop':
      if (names.includes('agent')) await stopAgent();
      else await Promise.all(chosen.map((unit) => unit?.stop()));
      return {};
    case 'kill':
      if (order.unit === 'all') rebooted = true;
      await Promise.all(chosen.map((unit) => unit?.kill(order.stayDown || order.unit === 'all')));
      return {};
  }
}

function serve(socket: Socket): void {
  let text = '';
  socket.setEncoding('utf8');
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: string) => {
    text += chunk;
    if (text.length > 4096) socket.destroy();
    const end = text.indexOf('\n');
    if (end < 0) return;
    const line = text.slice(0, end);
    text = '';
    void answer(line).then((reply) => socket.end(`${JSON.stringify(reply)}\n`, () => ending && process.exit(0)));
  });
}

async function answer(line: string): Promise<Answer> {
  try {
    return await obey(JSON.parse(line) as Order);
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

if (spec.oneshot !== undefined) watchOneshot(spec.oneshot);
process.umask(0o177);
createServer(serve).listen(spec.control, () => process.umask(0o022));
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, async () => {
    await Promise.all([...units.values()].map((unit) => unit.stop()));
    process.exit(0);
  });
}

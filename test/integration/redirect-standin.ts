/**
 * Runs inside a network namespace as root and opens sockets as any uid: the owner of a socket is the effective uid of the moment it is
 * made. Reads one JSON command a line from stdin, answers one JSON line each, in order.
 */
import dgram from 'node:dgram';
import net from 'node:net';
import { createInterface } from 'node:readline';

type Command =
  | { op: 'listen'; uid: number; host: string; port: number; tag: string }
  | { op: 'listen-udp'; uid: number; host: string; port: number; tag: string }
  | { op: 'connect'; uid: number; host: string; port: number; from?: string }
  | { op: 'ask-udp'; uid: number; host: string; port: number; keep?: boolean; from?: number }
  | { op: 'close'; port: number };

const open = new Map<number, Set<net.Server | dgram.Socket>>();
let kept: dgram.Socket | undefined;

async function asUid<T>(uid: number, work: () => Promise<T>): Promise<T> {
  process.seteuid?.(uid);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
  }
}

function remember(port: number, socket: net.Server | dgram.Socket): void {
  (open.get(port) ?? open.set(port, new Set()).get(port))?.add(socket);
}

/** Resolves with who answered: `TAG localAddress:localPort`, or the error's code. */
function connect(host: string, port: number, from: string | undefined): Promise<string> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port, localAddress: from });
    let text = '';
    socket.setTimeout(3000, () => socket.destroy(Object.assign(new Error('late'), { code: 'TIMEOUT' })));
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'ERROR'));
    socket.on('close', () => resolve(text));
  });
}

function listen(host: string, port: number, tag: string): Promise<string> {
  return new Promise((resolve) => {
    const server = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.end(`${tag} ${socket.localAddress}:${socket.localPort} from ${socket.remoteAddress}`);
    });
    server.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'ERROR'));
    server.listen({ host, port, ipv6Only: host.includes(':') }, () => resolve('ok'));
    remember(port, server);
  });
}

function listenUdp(host: string, port: number, tag: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = dgram.createSocket({ type: host.includes(':') ? 'udp6' : 'udp4', ipv6Only: host.includes(':') });
    socket.on('message', (_, peer) => socket.send(tag, peer.port, peer.address));
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'ERROR'));
    socket.bind({ address: host, port }, () => resolve('ok'));
    remember(port, socket);
  });
}

/** `keep`: the same socket is used by every such call, as c-ares does. `from`: source port. */
function askUdp(host: string, port: number, keep: boolean, from: number | undefined): Promise<string> {
  return new Promise((resolve) => {
    const socket = (keep && kept) || dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
    if (keep) kept = socket;
    const finish = (answer: string) => {
      clearTimeout(timer);
      socket.removeAllListeners();
      if (!keep) socket.close();
      resolve(answer);
    };
    const timer = setTimeout(() => finish('TIMEOUT'), 10_000);
    socket.once('message', (data) => finish(data.toString()));
    socket.once('error', (error: NodeJS.ErrnoException) => finish(error.code ?? 'ERROR'));
    if (from !== undefined) socket.bind(from);
    socket.send('?', port, host, (error) => error && finish((error as NodeJS.ErrnoException).code ?? 'ERROR'));
  });
}

async function run(command: Command): Promise<string> {
  switch (command.op) {
    case 'listen':
      return asUid(command.uid, () => listen(command.host, command.port, command.tag));
    case 'listen-udp':
      return asUid(command.uid, () => listenUdp(command.host, command.port, command.tag));
    case 'connect':
      return asUid(command.uid, () => connect(command.host, command.port, command.from));
    case 'ask-udp':
      return asUid(command.uid, () => askUdp(command.host, command.port, command.keep === true, command.from));
    case 'close':
      for (const socket of open.get(command.port) ?? [])
        await new Promise<void>((resolve) => socket.close(() => resolve()));
      open.delete(command.port);
      return 'ok';
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await run(JSON.parse(line) as Command).catch((error: unknown) => `THROWN ${error}`);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);

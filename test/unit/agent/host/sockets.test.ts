import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { createSockets, judgePort, type Listener, parseListeners, strangerOn } from '../../../../agent/host/sockets.ts';

const HEAD = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
const line = (local: string, state: string, uid: number, inode: number) =>
  `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000 ${String(uid).padStart(5)}        0 ${inode} 1 0000000000000000 100 0 0 10 0\n`;

t.test('parses addresses of both families, LISTEN only', async (t) => {
  const v4 =
    HEAD +
    line('0100007F:3A99', '0A', 998, 77) +
    line('00000000:0016', '0A', 0, 78) +
    line('0100007F:1F90', '01', 5, 79) +
    'junk\n';
  t.strictSame(parseListeners(v4, 'v4'), [
    { family: 'v4', address: '127.0.0.1', port: 15001, uid: 998, inode: 77 },
    { family: 'v4', address: '0.0.0.0', port: 22, uid: 0, inode: 78 },
  ]);
  const v6 =
    HEAD +
    line('00000000000000000000000001000000:1F90', '0A', 33, 1) +
    line('00000000000000000000000000000000:0050', '0A', 33, 2) +
    line('000009FD000000000000000001000000:0050', '0A', 33, 3);
  t.strictSame(
    parseListeners(v6, 'v6').map((l) => l.address),
    ['::1', '::', 'fd09::1'],
  );
  t.strictSame(parseListeners(v4, 'v6'), [], 'a line of the other family is none');
});

t.test('reads this process: its own socket, port, uid and holder', async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as { port: number };
  const sockets = createSockets();
  const mine = (await sockets.listeners()).filter((l) => l.port === port);
  t.match(mine, [{ family: 'v4', address: '127.0.0.1', uid: process.getuid?.() }]);
  const holders = await sockets.holders(new Set([mine[0]!.inode]));
  t.strictSame(holders, new Map([[mine[0]!.inode, new Set([process.geteuid?.()])]]));
});

t.test('stops reading at the first socket that does not listen', async (t) => {
  const dir = t.testdir({ net: {} });
  const established = line('0100007F:0001', '01', 1, 1).repeat(2000);
  writeFileSync(
    join(dir, 'net/tcp'),
    HEAD + line('0100007F:3A99', '0A', 998, 77) + established + line('0100007F:3A9A', '0A', 998, 78),
  );
  const found = await createSockets(dir).listeners();
  t.strictSame(
    found.map((l) => l.port),
    [15001],
    'LISTEN comes first in /proc; what follows is not read',
  );
  t.strictSame(await createSockets(t.testdir({ net: {} })).listeners(), [], 'no such files: none');
});

t.test('holders by effective uid; processes that cannot be read are left out', async (t) => {
  const dir = t.testdir({ 12: { fd: {} }, 13: {}, self: {} });
  symlinkSync('socket:[77]', join(dir, '12/fd/3'));
  symlinkSync('/dev/null', join(dir, '12/fd/0'));
  writeFileSync(join(dir, '12/status'), 'Name:\tx\nUid:\t0\t33\t0\t0\n');
  mkdirSync(join(dir, '14/fd'), { recursive: true });
  symlinkSync('socket:[77]', join(dir, '14/fd/9'));
  t.strictSame(await createSockets(dir).holders(new Set([77, 78])), new Map([[77, new Set([33])]]));
});

t.test('DESIGN 3.5: whose port is it', async (t) => {
  const at = (uid: number, address = '0.0.0.0', inode = 1): Listener => ({
    family: address.includes(':') ? 'v6' : 'v4',
    address,
    port: 80,
    uid,
    inode,
  });
  const owners = new Set([33]);
  const held = (...uids: number[]) => new Map([[1, new Set(uids)]]);
  for (const [name, listeners, holders, state] of [
    ['its own', [at(33)], new Map(), 'owned'],
    ['nothing', [], new Map(), 'absent'],
    ["root's, held by a worker of the workload (nginx)", [at(0)], held(0, 33), 'owned'],
    ["root's alone", [at(0)], held(0), 'foreign'],
    ["root's, not to be seen", [at(0)], new Map(), 'unproved'],
    ["a stranger's", [at(10)], held(33), 'foreign'],
    ['a stranger on :: beside it', [at(33), at(10, '::', 2)], new Map(), 'foreign'],
    ['a stranger on ::1 beside it, whom nothing is handed to', [at(33), at(10, '::1', 2)], new Map(), 'owned'],
    ['a stranger on ::1, itself on loopback only', [at(33, '127.0.0.1'), at(10, '::1', 2)], new Map(), 'foreign'],
    ['on loopback only', [at(33, '127.0.0.1'), at(33, '::1', 2)], new Map(), 'absent'],
    ['on loopback and elsewhere', [at(33, '127.0.0.1'), at(33, '10.0.0.1', 2)], new Map(), 'owned'],
  ] as const)
    t.equal(judgePort(80, owners, listeners, holders as Map<number, Set<number>>).state, state, name);
});

t.test('a stranger leaves alone what it serves itself, and never opens what the workload listens on', async (t) => {
  const at = (uid: number, address: string, inode = uid): Listener => ({
    family: address.includes(':') ? 'v6' : 'v4',
    address,
    port: 80,
    uid,
    inode,
  });
  const holders = new Map([[0, new Set([0])]]);
  for (const [name, listeners, v4, v6] of [
    ['nobody', [], undefined, undefined],
    ['the workload', [at(33, '0.0.0.0')], undefined, undefined],
    ['a stranger in both families', [at(10, '::')], 10, 10],
    ["root's own service", [at(0, '0.0.0.0')], 0, undefined],
    ['the workload on IPv4, a squatter on ::1', [at(33, '0.0.0.0'), at(10, '::1')], undefined, 10],
    ['the workload on IPv4, a squatter on ::', [at(33, '0.0.0.0'), at(10, '::')], undefined, 10],
    ['the workload on IPv6, a squatter on IPv4', [at(33, '::'), at(10, '0.0.0.0')], 10, undefined],
    [
      'the workload on one address, a squatter on another',
      [at(33, '10.0.0.1'), at(10, '127.0.0.1')],
      undefined,
      undefined,
    ],
    ['the workload on loopback only, a database beside it', [at(33, '127.0.0.1'), at(10, '10.0.0.1')], 10, undefined],
  ] as const)
    for (const [family, uid] of [
      ['v4', v4],
      ['v6', v6],
    ] as const)
      t.equal(strangerOn(80, family, new Set([33]), listeners, holders)?.uid, uid, `${name}: ${family}`);
});

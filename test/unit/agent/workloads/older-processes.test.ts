import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tap from 'tap';
import { olderProcesses, uptimeSeconds } from '../../../../agent/workloads/older-processes.ts';

tap.test('processes that started before their user was captured', async (t) => {
  const proc = mkdtempSync(join(tmpdir(), 'proc-'));
  t.teardown(() => rmSync(proc, { recursive: true, force: true }));
  const put = (pid: number, name: string, uid: number, startTicks: number) => {
    mkdirSync(join(proc, String(pid)));
    writeFileSync(join(proc, String(pid), 'status'), `Name:\t${name}\nUid:\t0\t${uid}\t0\t0\n`);
    const before = Array.from({ length: 17 }, () => '1').join(' ');
    writeFileSync(join(proc, String(pid), 'stat'), `${pid} (${name}) S 1 ${before} ${startTicks} 9 9\n`);
  };
  put(10, 'old', 33, 999);
  put(11, 'odd) (name', 33, 100);
  put(12, 'young', 33, 1001);
  put(13, 'other', 34, 1);
  for (const [pid, name, unit] of [
    [16, 'probe', 'mesh-probe-0123456789abcdef@3-77-990.service'],
    [17, 'exporter', 'mesh-probe-exporter@1.service'],
    [18, 'below', 'web.service/mesh-probe-0123456789abcdef@3-77-990.service'],
  ] as const) {
    put(pid, name, 33, 100);
    writeFileSync(join(proc, String(pid), 'cgroup'), `0::/system.slice/${unit}\n`);
  }
  put(14, 'root', 0, 1);
  mkdirSync(join(proc, '15')); // it ended while we looked
  writeFileSync(join(proc, 'uptime'), '1234.56 99.9\n');
  t.strictSame(await olderProcesses(new Map([[33, 10]]), proc), [
    { pid: 10, name: 'old', uid: 33 },
    { pid: 11, name: 'odd) (name', uid: 33 },
    { pid: 17, name: 'exporter', uid: 33 },
    { pid: 18, name: 'below', uid: 33 },
  ]);
  t.strictSame(await olderProcesses(new Map(), proc), []);
  t.equal(uptimeSeconds(proc), 1234.56);
});

tap.test('this very process is older than now, and younger than boot', async (t) => {
  const uid = process.geteuid?.() ?? 0;
  const older = await olderProcesses(new Map([[uid, uptimeSeconds()]]));
  t.ok(older.length > 0, 'something of ours runs');
  t.strictSame(await olderProcesses(new Map([[uid, 0]])), []);
});

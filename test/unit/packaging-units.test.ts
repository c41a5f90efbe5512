import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { test } from 'tap';
import { planLab } from '../../scripts/lib/lab/plan.ts';
import { hostSupervisor, meshPrograms } from '../../scripts/lib/lab/programs.ts';
import { parseTopology } from '../../scripts/lib/lab/topology.ts';

const FOLDER = 'packaging/systemd';

/** Key -> values of a unit file, sections left out: no key here is in two sections. */
function unit(name: string): Map<string, string[]> {
  const keys = new Map<string, string[]>();
  for (const line of readFileSync(`${FOLDER}/${name}`, 'utf8').split('\n')) {
    const found = /^([A-Za-z0-9]+)=(.*)$/.exec(line);
    if (found) keys.set(found[1]!, [...(keys.get(found[1]!) ?? []), found[2]!]);
  }
  return keys;
}

test('every unit that a unit names is there', (t) => {
  for (const file of readdirSync(FOLDER)) {
    const keys = unit(file);
    for (const key of ['Wants', 'Requires', 'After', 'OnFailure', 'PartOf', 'Unit', 'Service', 'Sockets'])
      for (const name of (keys.get(key) ?? []).flatMap((v) => v.split(' ')).filter((v) => v.startsWith('mesh-')))
        t.ok(existsSync(`${FOLDER}/${name}`), `${file}: ${key}=${name}`);
    for (const line of keys.get('ExecStop') ?? [])
      if (line.includes('/usr/lib/mesh/agent-stop')) t.ok(existsSync('packaging/bin/agent-stop'), `${file}: ${line}`);
  }
  t.end();
});

test('nothing ties the proxy to the agent (DESIGN 4: each of these stops it at the wrong moment)', (t) => {
  for (const file of ['mesh-agent.service', 'mesh-proxy.service'])
    for (const key of ['PartOf', 'BindsTo', 'PropagatesStopTo', 'Requisite'])
      t.notOk(unit(file).has(key), `${file} has no ${key}=`);
  t.end();
});

test('no core dump, no capability but the one for a gateway’s ports, no MemoryDenyWriteExecute, which kills Node', (t) => {
  for (const file of ['mesh-agent.service', 'mesh-proxy.service', 'mesh-controller.service']) {
    t.strictSame(unit(file).get('LimitCORE'), ['0'], file);
    const capability = file === 'mesh-proxy.service' ? 'CAP_NET_BIND_SERVICE' : '';
    t.strictSame(unit(file).get('CapabilityBoundingSet'), [capability], file);
    t.strictSame(unit(file).get('AmbientCapabilities') ?? [''], [capability], file);
    t.notOk(unit(file).has('MemoryDenyWriteExecute'), file);
  }
  t.end();
});

test('the lab restarts and holds sockets as the units do', (t) => {
  const plan = planLab(parseTopology('hosts: [{name: a}]', 'x.yaml'));
  const lab = hostSupervisor(meshPrograms, plan.hosts[0]!);
  const agent = unit('mesh-agent.service');
  t.strictSame(lab.units.agent?.restart, {
    delayMs: Number.parseInt(agent.get('RestartSec')![0]!, 10),
    burst: Number(agent.get('StartLimitBurst')![0]),
    intervalMs: Number(agent.get('StartLimitIntervalSec')![0]) * 1000,
    preventStatus: agent.get('RestartPreventExitStatus')![0]!.split(' ').map(Number),
  });
  const socket = unit('mesh-agent-dns.socket');
  const held = lab.sockets
    .map((s) => `${s.type} ${s.address.includes(':') ? `[${s.address}]` : s.address}:${s.port}`)
    .sort();
  const listens = [
    ...socket.get('ListenDatagram')!.map((a) => `udp ${a}`),
    ...socket.get('ListenStream')!.map((a) => `tcp ${a}`),
  ].sort();
  t.strictSame(held, listens);
  t.strictSame(socket.get('FileDescriptorName'), [lab.sockets[0]?.name]);
  t.equal(lab.units.proxy?.restart.burst, Number(unit('mesh-proxy.service').get('StartLimitBurst')![0]));
  t.end();
});

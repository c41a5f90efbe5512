// What the oneshot says when the kernel refuses its rules. The rules themselves: test/integration/redirect.test.ts.
import t from 'tap';
import type { Exec } from '../../../../agent/host/exec.ts';
import { applyRedirect } from '../../../../agent/redirect/apply.ts';
import { errorLine } from '../../../../api/errors.ts';
import { buildSpec, UID } from '../../../builders/redirect-spec.ts';

/** A host without a rule, whose iptables-restore refuses; `routesStay`: what was added to lo cannot be taken away again. */
function refusingHost(routesStay: boolean): Exec {
  const routes = new Set<string>();
  const answer = (code: number, stdout = '', stderr = '') => ({ code, stdout, stderr });
  return async (file, args) => {
    if (file === 'iptables') return answer(0, 'iptables v1.8.9 (nf_tables)');
    if (file === 'iptables-restore') return answer(1, '', 'no memory\n');
    if (file !== 'ip' || args[1] !== 'route') return answer(0);
    const [, , verb, range = ''] = args;
    if (verb === 'show') return answer(0, [...routes].join('\n'));
    if (verb === 'add') routes.add(range);
    else if (routesStay) return answer(2, '', 'not now');
    else routes.delete(range);
    return answer(0);
  };
}

const WHY = 'rules were not changed: iptables-restore failed: no memory';
const NOT_BACK =
  '; and putting back the previous rules failed: ip -4 route del 240.240.0.0/16 dev lo proto 77: not now';

for (const [name, routesStay, line] of [
  ['what stood before stands again', false, WHY],
  ['and not all can be put back', true, WHY + NOT_BACK],
] as const)
  t.test(`rules refused, ${name}: each cause is told once`, async (t) => {
    const folder = t.testdir({ proc: { net: {} } });
    const deps = {
      exec: refusingHost(routesStay),
      sockets: { listeners: async () => [], udp: async () => [], holders: async () => new Map() },
      stateDir: `${folder}/state`,
      procPath: `${folder}/proc`,
      now: () => 0,
    };
    const spec = buildSpec({ families: ['v4'], inboundPorts: [], dns: false });
    const options = { agentUid: UID.agent, revertAfterMs: 0, trustListeners: true };
    const error = await applyRedirect(deps, spec, options).catch((refused: unknown) => refused);
    t.equal(errorLine(error), line);
    t.match(error, { code: 'REDIRECT_FAILED', details: { restored: !routesStay } });
  });

import { TREE } from '../../scripts/lib/lab/paths.ts';
import type { Programs } from '../../scripts/lib/lab/programs.ts';

const NODE = `${TREE}/build/node/bin/node`;
const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
const agent = (...args: string[]) => [NODE, `${TREE}/test/fakes/lab-agent.ts`, ...args];
const controller = (...args: string[]) => [NODE, `${TREE}/test/fakes/lab-controller.ts`, ...args];

/** Programs with the mesh's users and files and none of its function, to see what the lab itself does. */
export const fakePrograms: Programs = {
  controllerConfig: () => '{}\n',
  controllerInit: (node, paths) => ({
    argv: controller('init', paths.stateDir, node.ip4),
    user: 'mesh-controller',
    env,
  }),
  controllerRun: (_node, paths) => ({ argv: controller('run', paths.stateDir), user: 'mesh-controller', env }),
  agentConfig: () => '{}\n',
  agentJoin: (_host, paths) => ({ argv: agent('join', paths.stateDir), env }),
  agentRun: (_host, paths) => ({ argv: agent('run', paths.stateDir, paths.runDir), user: 'mesh-agent', env }),
  proxyRun: (_host, paths) => ({
    argv: ['sleep', '1000'],
    user: 'mesh-proxy',
    env,
    needs: `${paths.stateDir}/proxy/bootstrap.json`,
  }),
  redirect: (verb, _host, paths) => ({ argv: agent('redirect', verb, paths.runDir), env }),
};

/** `mesh-agent redirect` alone, for the tests: what agent/main.ts does with this verb. */
import { parseAgentConfig } from '../../agent/config.ts';
import { redirectCommand } from '../../agent/redirect/command.ts';

process.exitCode = await redirectCommand(process.argv.slice(process.argv[2] === 'redirect' ? 3 : 2), {
  parseConfig: parseAgentConfig,
});

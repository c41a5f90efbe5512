/** Envoy gives every name its prefix; Istio's standard metrics are known without it (they come from Envoy's stats access logger). */
const ISTIO_NAME = /^(# TYPE )?envoy_(istio_\w+)/;

/**
 * One Prometheus text out of the agent's and Envoy's. `envoy` undefined: Envoy did not answer; the text then says so by `mesh_agent_envoy_up 0`.
 * A family stands once: the agent's names begin with `mesh_agent_`, `process_` or `nodejs_`, Envoy's with `envoy_` or `istio_`.
 */
export function mergeMetrics(agent: string, envoy: string | undefined): string {
  const up = `# HELP mesh_agent_envoy_up Envoy's admin answered.\n# TYPE mesh_agent_envoy_up gauge\nmesh_agent_envoy_up ${envoy === undefined ? 0 : 1}\n`;
  const own = agent.endsWith('\n') || agent === '' ? agent : `${agent}\n`;
  if (envoy === undefined) return own + up;
  const lines = envoy.split('\n').map((line) => line.replace(ISTIO_NAME, '$1$2'));
  const text = lines.join('\n');
  return own + up + (text.endsWith('\n') || text === '' ? text : `${text}\n`);
}

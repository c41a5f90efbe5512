import { request } from 'node:http';
import { ADMIN_API, type AgentStatus } from '../../../api/http/admin-api.ts';

/** GET /status on an agent's admin socket. Rejects when the agent does not answer within 2 s. */
export function adminStatus(runDir: string): Promise<AgentStatus> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: `${runDir}/admin.sock`, path: ADMIN_API.status, timeout: 2000 }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.once('end', () => {
        try {
          resolve(JSON.parse(text) as AgentStatus);
        } catch (error) {
          reject(error);
        }
      });
    });
    asked.once('timeout', () => asked.destroy(new Error('the agent does not answer on its admin socket')));
    asked.once('error', reject);
    asked.end();
  });
}

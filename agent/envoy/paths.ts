import { join } from 'node:path';

/** Files that the agent and its Envoy share. `proxyDir`: the agent makes it, mode 0770 in the proxy's group; Envoy makes its admin socket in it. */
export interface ProxyPaths {
  readonly bootstrap: string;
  /** Worker threads that the next start of Envoy takes; absent: one a processor. */
  readonly concurrency: string;
  readonly xdsSocket: string;
  readonly proxyDir: string;
  readonly adminSocket: string;
}

export function proxyPaths(config: { readonly stateDir: string; readonly runDir: string }): ProxyPaths {
  return {
    bootstrap: join(config.stateDir, 'proxy', 'bootstrap.json'),
    concurrency: join(config.stateDir, 'proxy', 'concurrency'),
    xdsSocket: join(config.runDir, 'xds.sock'),
    proxyDir: join(config.runDir, 'proxy'),
    adminSocket: join(config.runDir, 'proxy', 'admin.sock'),
  };
}

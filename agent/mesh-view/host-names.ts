/** Where mesh services' full names end: Istio's own, so that its documents hold. */
export const CLUSTER_DOMAIN = 'svc.cluster.local';

/** `NAME.NS.svc.cluster.local` of a v1 Service. */
export function serviceHost(name: string, namespace: string): string {
  return `${name}.${namespace}.${CLUSTER_DOMAIN}`;
}

/**
 * The host that an object of `namespace` means. A name without a dot is a service of that namespace; any other, and `*`, stands as it is
 * (Istio: "short names ... interpreted based on the namespace of the rule"). Lower-cased, without a trailing dot.
 */
export function resolveHost(host: string, namespace: string): string {
  const lower = host.toLowerCase().replace(/\.$/, '');
  return lower === '*' || lower.includes('.') ? lower : serviceHost(lower, namespace);
}

/** True when `pattern` (`*`, `*.x`, or a plain name) covers the plain or wildcard name `host`. */
export function hostMatches(pattern: string, host: string): boolean {
  if (pattern === host || pattern === '*') return true;
  return pattern.startsWith('*') && host.length > pattern.length - 1 && host.endsWith(pattern.slice(1));
}

/** The most specific of `patterns` that covers `host`: the exact name, else the longest wildcard. Undefined when none does. */
export function mostSpecific(patterns: Iterable<string>, host: string): string | undefined {
  let best: string | undefined;
  for (const pattern of patterns) {
    if (pattern === host) return pattern;
    if (hostMatches(pattern, host) && (best === undefined || pattern.length > best.length)) best = pattern;
  }
  return best;
}

/** Istio's exportTo: absent or `*` everyone, `.` the object's own namespace, `~` nobody, else the namespaces listed. */
export function isExportedTo(
  exportTo: readonly string[] | undefined,
  ownNamespace: string,
  clientNamespace: string,
): boolean {
  if (exportTo === undefined || exportTo.length === 0) return true;
  return exportTo.some(
    (to) => to === '*' || to === clientNamespace || (to === '.' && ownNamespace === clientNamespace),
  );
}

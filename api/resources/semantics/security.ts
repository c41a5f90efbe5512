import { checkPort, checkSelector, parseCidr } from '../formats.ts';
import type { MeshObject } from '../object.ts';
import { childPath, type Report, shown } from '../report.ts';

type Strings = readonly string[];

interface Selector {
  readonly matchLabels?: Readonly<Record<string, string>>;
}

/** PeerAuthentication by itself, as Istio's ValidatePeerAuthentication judges it. */
export function checkPeerAuthentication(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as {
    readonly selector?: Selector;
    readonly portLevelMtls?: Readonly<Record<string, unknown>>;
  };
  const labels = spec.selector?.matchLabels;
  checkSelector(labels, 'spec.selector.matchLabels', report);
  if (spec.portLevelMtls === undefined) return;
  if (Object.keys(labels ?? {}).length === 0)
    report.required('spec.selector', 'portLevelMtls requires selector: port level mTLS is for chosen workloads');
  if (Object.keys(spec.portLevelMtls).length === 0)
    report.required('spec.portLevelMtls', 'port level settings, if set, must not be empty');
  for (const port of Object.keys(spec.portLevelMtls)) {
    const number = /^\d{1,5}$/.test(port) ? Number(port) : Number.NaN;
    checkPort(number, childPath('spec.portLevelMtls', port), report);
  }
}

interface Rule {
  readonly from?: readonly { readonly source?: Readonly<Record<string, Strings>> }[];
  readonly to?: readonly { readonly operation?: Readonly<Record<string, Strings>> }[];
  readonly when?: readonly { readonly key?: string; readonly values?: Strings; readonly notValues?: Strings }[];
}

interface AuthorizationPolicySpec {
  readonly action?: string;
  readonly rules?: readonly Rule[];
  readonly selector?: Selector;
  readonly provider?: { readonly name?: string };
  readonly targetRef?: unknown;
  readonly targetRefs?: unknown;
}

/** AuthorizationPolicy by itself, as Istio's ValidateAuthorizationPolicy judges it. */
export function checkAuthorizationPolicy(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as AuthorizationPolicySpec;
  checkSelector(spec.selector?.matchLabels, 'spec.selector.matchLabels', report);
  if (spec.action === 'CUSTOM') {
    if (spec.rules === undefined)
      report.required('spec.rules', 'CUSTOM action without rules is meaningless as it will never be triggered');
    if (!spec.provider?.name) report.required('spec.provider.name', 'CUSTOM action requires a provider');
  } else if (spec.provider !== undefined) {
    report.add('spec.provider', 'provider is only for the action CUSTOM', 'FieldValueForbidden');
  }
  if (spec.action === 'DENY' && spec.rules === undefined)
    report.required('spec.rules', 'DENY action without rules is meaningless as it will never be triggered');
  for (const [i, rule] of (spec.rules ?? []).entries()) checkRule(rule, `spec.rules[${i}]`, report);
}

function checkRule(rule: Rule, path: string, report: Report): void {
  for (const field of ['from', 'to', 'when'] as const) {
    if (rule[field]?.length === 0)
      report.required(`${path}.${field}`, `must not be empty: leave ${field} out to match everything`);
  }
  for (const [i, from] of (rule.from ?? []).entries()) checkSource(from.source, `${path}.from[${i}].source`, report);
  for (const [i, to] of (rule.to ?? []).entries()) checkOperation(to.operation, `${path}.to[${i}].operation`, report);
  for (const [i, when] of (rule.when ?? []).entries()) {
    const at = `${path}.when[${i}]`;
    if ((when.values ?? []).length === 0 && (when.notValues ?? []).length === 0)
      report.required(at, 'at least one of values and notValues must be set');
    checkCondition(when.key ?? '', `${at}.key`, report);
    for (const field of ['values', 'notValues'] as const)
      checkConditionValues(when.key ?? '', when[field], `${at}.${field}`, report);
  }
}

/** Lists that are set must not be empty, nor may their entries be. */
function checkLists(fields: Readonly<Record<string, Strings>> | undefined, path: string, report: Report): void {
  if (fields === undefined || Object.keys(fields).length === 0) {
    report.required(path, 'must have at least one field');
    return;
  }
  for (const [name, values] of Object.entries(fields)) {
    if (values.length === 0) report.required(`${path}.${name}`, 'must not be empty');
    for (const [i, value] of values.entries()) {
      if (value === '') report.required(`${path}.${name}[${i}]`, 'must not be empty');
    }
  }
}

function checkSource(source: Readonly<Record<string, Strings>> | undefined, path: string, report: Report): void {
  checkLists(source, path, report);
  for (const name of ['ipBlocks', 'notIpBlocks', 'remoteIpBlocks', 'notRemoteIpBlocks'])
    checkCidrs(source?.[name], `${path}.${name}`, report);
  const accounts = source?.serviceAccounts ?? source?.notServiceAccounts;
  const others = ['principals', 'notPrincipals', 'namespaces', 'notNamespaces'].filter(
    (name) => source?.[name] !== undefined,
  );
  if (accounts !== undefined && others.length > 0)
    report.add(path, `cannot set serviceAccounts together with ${others.join(', ')}`);
  for (const name of ['serviceAccounts', 'notServiceAccounts']) {
    for (const [i, account] of (source?.[name] ?? []).entries()) {
      if (account.includes('*')) report.add(`${path}.${name}[${i}]`, 'wildcards are not allowed in service accounts');
    }
  }
}

function checkOperation(operation: Readonly<Record<string, Strings>> | undefined, path: string, report: Report): void {
  checkLists(operation, path, report);
  for (const name of ['ports', 'notPorts']) {
    for (const [i, port] of (operation?.[name] ?? []).entries()) {
      if (!/^\d{1,5}$/.test(port)) report.add(`${path}.${name}[${i}]`, `${shown(port)} is not a port`);
      else checkPort(Number(port), `${path}.${name}[${i}]`, report);
    }
  }
  for (const name of ['paths', 'notPaths']) {
    for (const [i, value] of (operation?.[name] ?? []).entries())
      checkPathTemplate(value, `${path}.${name}[${i}]`, report);
  }
}

/** Paths may hold `{*}` and, last, `{**}`; not beside the plain wildcard. */
function checkPathTemplate(value: string, path: string, report: Report): void {
  if (!/[{}]/.test(value)) return;
  const parts = value.split('/').slice(1);
  const sound =
    value.startsWith('/') && parts.every((part) => !/[{}*]/.test(part) || part === '{*}' || part === '{**}');
  const wide = parts.indexOf('{**}');
  if (!sound || (wide >= 0 && wide !== parts.length - 1))
    report.add(
      path,
      `${shown(value)}: {*} and {**} stand for whole segments, {**} only at the end, and no other wildcard beside them`,
    );
}

function checkCidrs(list: Strings | undefined, path: string, report: Report): void {
  for (const [i, value] of (list ?? []).entries()) {
    if (parseCidr(value) === undefined) report.add(`${path}[${i}]`, `${shown(value)} is not an IP address or a CIDR`);
  }
}

const CONDITION_KEY =
  /^(request\.headers\[[-\w!#$%&'*+.^`|~:]+\]|source\.(ip|namespace|principal|serviceAccount)|remote\.ip|destination\.(ip|port)|connection\.sni|request\.auth\.(principal|audiences|presenter|claims(\[[^\]]+\])+)|experimental\.envoy\.filters\.[a-zA-Z_.]+(\[[^\]]+\])*)$/;

function checkCondition(key: string, path: string, report: Report): void {
  if (!CONDITION_KEY.test(key)) report.add(path, `unknown attribute: ${shown(key)}`);
}

function checkConditionValues(key: string, values: Strings | undefined, path: string, report: Report): void {
  if (key === 'source.ip' || key === 'remote.ip' || key === 'destination.ip') checkCidrs(values, path, report);
  if (key !== 'destination.port') return;
  for (const [i, port] of (values ?? []).entries())
    checkPort(/^\d{1,5}$/.test(port) ? Number(port) : 0, `${path}[${i}]`, report);
}

interface JwtRule {
  readonly issuer?: string;
  readonly jwks?: string;
  readonly jwksUri?: string;
  readonly audiences?: Strings;
  readonly fromHeaders?: readonly { readonly name?: string }[];
  readonly fromParams?: Strings;
}

/** RequestAuthentication by itself, as Istio's ValidateRequestAuthentication judges it. */
export function checkRequestAuthentication(object: MeshObject, report: Report): void {
  const spec = (object.spec ?? {}) as { readonly selector?: Selector; readonly jwtRules?: readonly JwtRule[] };
  checkSelector(spec.selector?.matchLabels, 'spec.selector.matchLabels', report);
  for (const [i, rule] of (spec.jwtRules ?? []).entries()) {
    const path = `spec.jwtRules[${i}]`;
    if (!rule.issuer) report.required(`${path}.issuer`, 'issuer must be set');
    if (rule.jwks && rule.jwksUri) report.add(path, 'only one of jwks or jwksUri can be set');
    if (rule.jwksUri && !/^https?:\/\/[^/\s]+/.test(rule.jwksUri))
      report.add(`${path}.jwksUri`, 'must be an http or https URL');
    for (const [k, audience] of (rule.audiences ?? []).entries()) {
      if (audience === '') report.required(`${path}.audiences[${k}]`, 'audience must be non-empty string');
    }
    for (const [k, header] of (rule.fromHeaders ?? []).entries()) {
      if (!header.name) report.required(`${path}.fromHeaders[${k}].name`, 'location header must be non-empty string');
    }
    if (rule.jwks !== undefined && rule.jwks !== '') checkJwks(rule.jwks, `${path}.jwks`, report);
  }
}

function checkJwks(text: string, path: string, report: Report): void {
  try {
    const value = JSON.parse(text) as { keys?: unknown };
    if (Array.isArray(value?.keys)) return;
  } catch {
    // told below: text and shape are one verdict
  }
  report.add(path, 'is not a JSON Web Key Set: {"keys": [...]}');
}

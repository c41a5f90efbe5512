/**
 * Writes api/resources/schemas.json: the structural JSON schema of each kind, read from the type declarations of @kubernetes-models/istio
 * and kubernetes-models (their compiled validators keep no schema that could be served or used for finding unknown fields). Structure
 * only: fields, types, enums, required, one-of groups; limits and patterns stay with the packages' validators. Run after an upgrade of
 * either package: `node scripts/gen-schemas.ts`; a unit test compares the committed file with a fresh one.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

interface Schema {
  type?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  additionalProperties?: Schema;
  enum?: string[];
  oneOf?: object[];
  'x-kubernetes-int-or-string'?: true;
  'x-kubernetes-preserve-unknown-fields'?: true;
}

const ISTIO = '@kubernetes-models/istio';
const CORE = 'kubernetes-models/v1';

/** kind -> declaration file, and the fields of the top level that are the operator's to write. */
const SOURCES: Record<string, { module: string; fields: string[] }> = {
  ServiceEntry: { module: `${ISTIO}/networking.istio.io/v1/ServiceEntry`, fields: ['spec'] },
  WorkloadEntry: { module: `${ISTIO}/networking.istio.io/v1/WorkloadEntry`, fields: ['spec'] },
  WorkloadGroup: { module: `${ISTIO}/networking.istio.io/v1/WorkloadGroup`, fields: ['spec'] },
  VirtualService: { module: `${ISTIO}/networking.istio.io/v1/VirtualService`, fields: ['spec'] },
  DestinationRule: { module: `${ISTIO}/networking.istio.io/v1/DestinationRule`, fields: ['spec'] },
  Gateway: { module: `${ISTIO}/networking.istio.io/v1/Gateway`, fields: ['spec'] },
  Sidecar: { module: `${ISTIO}/networking.istio.io/v1/Sidecar`, fields: ['spec'] },
  ProxyConfig: { module: `${ISTIO}/networking.istio.io/v1beta1/ProxyConfig`, fields: ['spec'] },
  PeerAuthentication: { module: `${ISTIO}/security.istio.io/v1/PeerAuthentication`, fields: ['spec'] },
  RequestAuthentication: { module: `${ISTIO}/security.istio.io/v1/RequestAuthentication`, fields: ['spec'] },
  AuthorizationPolicy: { module: `${ISTIO}/security.istio.io/v1/AuthorizationPolicy`, fields: ['spec'] },
  Telemetry: { module: `${ISTIO}/telemetry.istio.io/v1/Telemetry`, fields: ['spec'] },
  Service: { module: `${CORE}/Service`, fields: ['spec'] },
  ServiceAccount: {
    module: `${CORE}/ServiceAccount`,
    fields: ['automountServiceAccountToken', 'imagePullSecrets', 'secrets'],
  },
  Namespace: { module: `${CORE}/Namespace`, fields: ['spec'] },
  Secret: { module: `${CORE}/Secret`, fields: ['data', 'stringData', 'type', 'immutable'] },
};

/** The whole table, kind -> field -> schema, as committed. */
export function generateSchemas(): Record<string, Record<string, Schema>> {
  const out: Record<string, Record<string, Schema>> = {};
  for (const [kind, { module, fields }] of Object.entries(SOURCES)) {
    const declaration = fileURLToPath(import.meta.resolve(module)).replace(/\.js$/, '.d.ts');
    const whole = declarationSchema(declaration, `I${kind}`);
    out[kind] = {};
    for (const field of fields) {
      const schema = whole.properties?.[field];
      if (schema === undefined) throw new Error(`${kind} has no field ${field} in ${declaration}`);
      (out[kind] as Record<string, Schema>)[field] = schema;
    }
  }
  return out;
}

/** Schema of `export interface NAME {...}` in a declaration file; references to other interfaces are read from their files. */
function declarationSchema(path: string, name: string): Schema {
  const text = readFileSync(path, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
  const imports = new Map<string, string>();
  for (const [, names, from] of text.matchAll(/import \{([^}]*)\} from "([^"]+)"/g)) {
    for (const imported of (names as string).split(',')) imports.set(imported.trim(), from as string);
  }
  const start = text.search(new RegExp(`export interface ${name}\\b`));
  if (start < 0) throw new Error(`no interface ${name} in ${path}`);
  const tokens = text.slice(text.indexOf('{', start)).match(/"[^"]*"|[A-Za-z_][\w.]*|\d+|[{}()[\]<>;:,?|&]/g) ?? [];
  return new DeclarationParser(tokens, (reference) => {
    if (reference.endsWith('IntOrString')) return { 'x-kubernetes-int-or-string': true };
    const from = imports.get(reference);
    if (from === undefined || !from.startsWith('.'))
      return { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
    const file = resolve(dirname(path), from.replace(/\.js$/, '.d.ts'));
    return declarationSchema(file, `I${from.replace(/^.*\//, '').replace(/\.js$/, '')}`);
  }).type();
}

/** Recursive descent over the small part of TypeScript that these generated files use. */
class DeclarationParser {
  private readonly tokens: readonly string[];
  private readonly lookup: (reference: string) => Schema;
  private at = 0;

  constructor(tokens: readonly string[], lookup: (reference: string) => Schema) {
    this.tokens = tokens;
    this.lookup = lookup;
  }

  private next(expected?: string): string {
    const token = this.tokens[this.at++];
    if (token === undefined || (expected !== undefined && token !== expected)) {
      throw new Error(`expected ${expected ?? 'a token'}, found ${token} at ${this.at}`);
    }
    return token;
  }

  private take(token: string): boolean {
    if (this.tokens[this.at] !== token) return false;
    this.at += 1;
    return true;
  }

  /** A union; string literals become an enum. A union of objects is returned as `oneOf` of its members. */
  type(): Schema {
    const members = [this.intersection()];
    while (this.take('|')) members.push(this.intersection());
    if (members.length === 1) return members[0] as Schema;
    if (members.every((member) => member.enum !== undefined)) {
      return { type: 'string', enum: members.flatMap((member) => member.enum as string[]) };
    }
    const types = members.map((member) => member.type).sort();
    if (types.join() === 'number,string') return { 'x-kubernetes-int-or-string': true };
    return { oneOf: members };
  }

  /** `Base & (Exclude<...> | WithA | WithB)`: the base, with the fields that the alternatives make required as a one-of group. */
  private intersection(): Schema {
    const base = this.primary();
    const groups: object[] = [];
    while (this.take('&')) groups.push(...oneOfGroup(base, this.primary()));
    return groups.length === 0 ? base : { ...base, oneOf: groups };
  }

  private primary(): Schema {
    const token = this.next();
    if (token === '{') return this.object();
    if (token === '(') {
      const inner = this.type();
      this.next(')');
      return inner;
    }
    if (token.startsWith('"')) return { type: 'string', enum: [token.slice(1, -1)] };
    if (token === 'string' || token === 'number' || token === 'boolean') return { type: token };
    if (token === 'Array') {
      this.next('<');
      const items = this.type();
      this.next('>');
      return { type: 'array', items };
    }
    if (token === 'Exclude') {
      this.next('<');
      this.type();
      this.next(',');
      this.type();
      this.next('>');
      return { enum: [] as string[], type: 'exclude' };
    }
    return this.lookup(token);
  }

  private object(): Schema {
    const schema: Schema = { type: 'object' };
    const properties: Record<string, Schema> = {};
    const required: string[] = [];
    while (!this.take('}')) {
      if (this.take('[')) {
        while (!this.take(']')) this.next();
        this.next(':');
        schema.additionalProperties = this.type();
      } else {
        const name = this.next().replaceAll('"', '');
        if (!this.take('?')) required.push(name);
        this.next(':');
        properties[name] = this.type();
      }
      this.take(';');
    }
    if (Object.keys(properties).length > 0) schema.properties = properties;
    if (required.length > 0) schema.required = required;
    if (schema.properties === undefined && schema.additionalProperties === undefined) {
      schema['x-kubernetes-preserve-unknown-fields'] = true;
    }
    return schema;
  }
}

/** Alternatives that each require exactly one more field; `Exclude` among them means that none of the fields is fine too. */
function oneOfGroup(base: Schema, union: Schema): object[] {
  const members = (union.oneOf ?? [union]) as Schema[];
  const singles: string[] = [];
  for (const member of members.filter((candidate) => candidate.type !== 'exclude')) {
    const added = (member.required ?? []).filter((field) => !(base.required ?? []).includes(field));
    if (added.length !== 1) return [];
    singles.push(added[0] as string);
  }
  const optional = members.some((member) => member.type === 'exclude');
  const required = singles.map((field) => ({ required: [field] }));
  return optional ? [{ not: { anyOf: required } }, ...required] : required;
}

if (import.meta.main) {
  const target = join(import.meta.dirname, '../api/resources/schemas.json');
  writeFileSync(target, `${JSON.stringify(generateSchemas())}\n`);
}

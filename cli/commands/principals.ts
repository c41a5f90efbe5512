import { generateKeyPairSync } from 'node:crypto';
import { open } from 'node:fs/promises';
import { MeshError } from '../../api/errors.ts';
import {
  OPERATOR_API,
  type PrincipalMade,
  type PrincipalRequest,
  type PrincipalShown,
} from '../../api/http/operator-api.ts';
import { createCsr } from '../../api/identity/x509.ts';
import { connectApi } from '../client/connect.ts';
import { type Command, EXIT } from '../context.ts';
import { type OutputFormat, renderData, versioned } from '../output/json.ts';
import { renderTable } from '../output/table.ts';

interface CreateOptions {
  readonly admin?: boolean;
  readonly namespace?: readonly string[];
  readonly verb?: readonly string[];
  readonly replace?: boolean;
  readonly certOut?: string;
  readonly keyOut?: string;
}

/** `meshctl principals list`: who may call; never a credential. */
export const principalsList: Command<{ readonly output?: OutputFormat }> = async (context, options) => {
  const client = await connectApi(context, options);
  const { body } = await client.send({ method: 'GET', path: OPERATOR_API.principals });
  const { items } = body as { readonly items: readonly PrincipalShown[] };
  if (options.output === 'json' || options.output === 'yaml') {
    context.out(renderData(versioned('PrincipalList', { items }), options.output).trimEnd());
    return EXIT.ok;
  }
  const rows = items.map(({ name, role, namespaces, verbs, credential }) => [
    name,
    role,
    role === 'admin' ? '*' : namespaces.join(','),
    verbs === undefined ? '*' : verbs.join(','),
    credential,
  ]);
  context.out(renderTable(['name', 'role', 'namespaces', 'verbs', 'credential'], rows));
  return EXIT.ok;
};

/**
 * `meshctl principals create NAME --admin | --namespace NS...`: the token goes to stdout, once. With --cert-out and --key-out a client
 * certificate instead, for a key made here, which leaves this machine as little as its file does. --replace: a new credential, the old one dies.
 */
export const principalsCreate: Command<CreateOptions> = async (context, options, args) => {
  const name = args[0] ?? '';
  const { admin, namespace, verb, certOut, keyOut } = options;
  if ((admin === true) === (namespace !== undefined))
    throw new MeshError('USAGE', 'give --admin, or --namespace NS for each of its namespaces');
  if ((certOut === undefined) !== (keyOut === undefined))
    throw new MeshError('USAGE', '--cert-out and --key-out go together');
  const key = keyOut === undefined ? undefined : generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const request: PrincipalRequest = {
    name,
    role: admin === true ? 'admin' : 'namespace',
    ...(namespace === undefined ? {} : { namespaces: namespace }),
    ...(verb === undefined ? {} : { verbs: verb }),
    ...(key === undefined ? {} : { csr: createCsr(key) }),
  };
  const client = await connectApi(context, options);
  // A key that cannot be kept must not be certified.
  if (key !== undefined)
    await writeNew(keyOut as string, key.export({ type: 'pkcs8', format: 'pem' }).toString(), 0o600);
  const replace = options.replace === true;
  const path = replace ? `${OPERATOR_API.principals}/${encodeURIComponent(name)}` : OPERATOR_API.principals;
  const made = (await client.send({ method: replace ? 'PUT' : 'POST', path, body: request })).body as PrincipalMade;
  if (certOut === undefined) {
    if (made.token === undefined) throw new MeshError('API_BROKEN', 'the controller’s answer holds no token');
    context.out(made.token);
    context.err(`token of ${name}, shown this once; keep it in a file of mode 0600 (--token-file)`);
  } else {
    await writeNew(certOut, made.certificate ?? '', 0o644);
    context.err(`certificate of ${name}: ${certOut}, its key: ${keyOut} (--cert-file, --key-file)`);
  }
  return EXIT.ok;
};

/** `meshctl principals delete NAME...`: refused from their next request on. */
export const principalsDelete: Command = async (context, options, args) => {
  const client = await connectApi(context, options);
  for (const name of args) {
    await client.send({ method: 'DELETE', path: `${OPERATOR_API.principals}/${encodeURIComponent(name)}` });
    context.out(`principal/${name} deleted`);
  }
  return EXIT.ok;
};

async function writeNew(path: string, text: string, mode: number): Promise<void> {
  try {
    const file = await open(path, 'wx', mode);
    await file.writeFile(text).finally(() => file.close());
  } catch (cause) {
    throw new MeshError('SETTINGS_INVALID', `cannot write ${path}: ${(cause as Error).message}`, { cause });
  }
}

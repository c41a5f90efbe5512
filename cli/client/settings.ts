import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '../../api/errors.ts';
import { parseDocuments } from '../../api/resources/documents.ts';
import type { CliContext, GlobalOptions } from '../context.ts';

/** Where the controllers are and how to prove who one is. */
export interface ApiSettings {
  /** Base URLs `https://HOST:PORT`, tried in order while a connection cannot be made. */
  readonly urls: readonly string[];
  /** PEM; without it the system's authorities count. */
  readonly ca?: string;
  readonly token?: string;
  readonly cert?: string;
  readonly key?: string;
}

interface ConfigFile {
  readonly api?: string;
  readonly caFile?: string;
  readonly tokenFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
}

const CONFIG_KEYS = ['api', 'caFile', 'tokenFile', 'certFile', 'keyFile'];
const MAX_FILE_BYTES = 64 * 1024;

/** Flags over environment over file. A token never comes from argv. Throws MeshError SETTINGS_INVALID. */
export async function loadApiSettings(context: CliContext, options: GlobalOptions): Promise<ApiSettings> {
  const { env } = context;
  const file = await readConfigFile(
    env.MESH_CONFIG ?? join(context.home, '.config/mesh/config.yaml'),
    env.MESH_CONFIG !== undefined,
  );
  const api = options.api ?? env.MESH_API ?? file.api;
  if (api === undefined || api === '')
    throw invalid(
      'no controller is named: give --api https://HOST:15200, set MESH_API, or write `api:` into ~/.config/mesh/config.yaml',
    );
  const urls = api.split(',').map((url) => checkUrl(url.trim()));
  const caFile = options.caFile ?? env.MESH_CA_FILE ?? file.caFile;
  const tokenFile = options.tokenFile ?? (env.MESH_TOKEN ? undefined : (env.MESH_TOKEN_FILE ?? file.tokenFile));
  const certFile = options.certFile ?? env.MESH_CERT_FILE ?? file.certFile;
  const keyFile = options.keyFile ?? env.MESH_KEY_FILE ?? file.keyFile;
  if ((certFile === undefined) !== (keyFile === undefined))
    throw invalid('a client certificate needs both its file and its key file');
  const token = tokenFile === undefined ? env.MESH_TOKEN : (await readSecret(tokenFile, 'token')).trim();
  if (token !== undefined && token !== '' && !/^[\x21-\x7e]+$/.test(token))
    throw invalid('the token holds characters that no token has');
  return {
    urls,
    ...(caFile === undefined ? {} : { ca: await readText(caFile, 'CA file') }),
    ...(token === undefined || token === '' ? {} : { token }),
    ...(certFile === undefined ? {} : { cert: await readText(certFile, 'certificate file') }),
    ...(keyFile === undefined ? {} : { key: await readSecret(keyFile, 'key') }),
  };
}

function checkUrl(url: string): string {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw invalid(`${url.slice(0, 200)} is not a URL: https://HOST:PORT is meant`);
  }
  if (parsed.protocol !== 'https:') throw invalid(`${parsed.origin}: only https is spoken to a controller`);
  if (parsed.username !== '' || parsed.password !== '')
    throw invalid('no credentials in the URL, please: use a token file');
  return parsed.origin;
}

async function readConfigFile(path: string, mustExist: boolean): Promise<ConfigFile> {
  let text: string;
  try {
    text = await readText(path, 'config file');
  } catch (error) {
    if (!mustExist && (error as MeshError).details?.missing === true) return {};
    throw error;
  }
  const { objects, errors } = parseDocuments(text, { maxBytes: MAX_FILE_BYTES, maxDocs: 1, maxAliases: 10 });
  const [problem] = errors;
  if (problem !== undefined)
    throw invalid(`${path}:${problem.position.line}:${problem.position.col}: ${problem.message}`);
  const [document] = objects;
  if (document === undefined) return {};
  const at = (key: string): string => {
    const { line, col } = document.locate(key);
    return `${path}:${line}:${col}`;
  };
  if (typeof document.value !== 'object' || Array.isArray(document.value))
    throw invalid(`${at('')}: key: value lines are meant`);
  for (const [key, value] of Object.entries(document.value as object)) {
    if (!CONFIG_KEYS.includes(key)) throw invalid(`${at(key)}: unknown key ${key}; known: ${CONFIG_KEYS.join(', ')}`);
    if (typeof value !== 'string') throw invalid(`${at(key)}: ${key} must be text`);
  }
  return document.value as ConfigFile;
}

async function readText(path: string, what: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > MAX_FILE_BYTES) throw invalid(`${what} ${path} is larger than 64 KiB`);
    return await readFile(path, 'utf8');
  } catch (cause) {
    if (cause instanceof MeshError) throw cause;
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new MeshError(
      'SETTINGS_INVALID',
      `cannot read the ${what} ${path}: ${missing ? 'there is none' : (cause as Error).message}`,
      {
        cause,
        details: { missing },
      },
    );
  }
}

/** A secret's file must be the owner's alone. */
async function readSecret(path: string, what: string): Promise<string> {
  const text = await readText(path, `${what} file`);
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0) throw invalid(`the ${what} file ${path} can be read by others: chmod 600 ${path}`);
  return text;
}

function invalid(message: string): MeshError {
  return new MeshError('SETTINGS_INVALID', message);
}

// In: the Envoy binary. Out: the FileDescriptorProtos that are compiled into it, as one FileDescriptorSet.
// The types that the agent encodes are therefore those of the very binary it configures; nothing can drift (DESIGN 3.1).
// Never executes the binary; never guesses: a set that lacks a dependency of one of its files is refused.
import { readFileSync, realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Reader, Writer } from 'protobufjs/minimal.js';
import { MeshError } from '../../api/errors.ts';
import { writeFileAtomic } from '../../runtime/atomic-file.ts';

/** One serialized FileDescriptorProto found in a binary. `dependencies` are file names. */
export interface FoundFile {
  readonly name: string;
  readonly dependencies: readonly string[];
  readonly bytes: Uint8Array;
}

/** Files that configuration never mentions: dropped with their dependents' imports left intact. */
const NEVER_CONFIG = [/^envoy\/admin\//, /^envoy\/data\//, /^opencensus\//, /^io\/prometheus\//];
/** The roots of what an agent encodes: configuration, extensions, discovery; the rest comes in as dependencies. */
const ROOTS =
  /^(envoy|xds|contrib)\/|^google\/protobuf\/(any|duration|timestamp|struct|wrappers|field_mask|empty)\.proto$/;

/**
 * Every FileDescriptorProto in `binary`, first of each name, sorted by name. protoc serializes fields in ascending order and the name
 * (field 1) first, so a file starts with 0x0a, a length and a name ending in `.proto`, and ends where the order breaks.
 * Source: google/protobuf/descriptor.proto.
 */
export function findDescriptors(binary: Buffer): FoundFile[] {
  const found = new Map<string, FoundFile>();
  const suffix = Buffer.from('.proto');
  for (let at = binary.indexOf(suffix); at >= 0; at = binary.indexOf(suffix, at + 1)) {
    const file = fileEndingNameAt(binary, at + suffix.length);
    if (file !== undefined && !found.has(file.name)) found.set(file.name, file);
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A name that ends at `end` belongs to a descriptor when the byte before it is its length and 0x0a stands before that. Names are under 128 bytes. */
function fileEndingNameAt(binary: Buffer, end: number): FoundFile | undefined {
  for (let length = 7; length < 128 && end - length - 2 >= 0; length++) {
    const start = end - length;
    const char = binary[start] ?? 0;
    if (!/[\w./-]/.test(String.fromCharCode(char))) return undefined;
    if (binary[start - 1] === length && binary[start - 2] === 0x0a) {
      const file = parseFile(binary, start - 2);
      if (file !== undefined) return file;
    }
  }
  return undefined;
}

/** Wire types of FileDescriptorProto's fields 1-12 and 14: length-delimited but for public and weak dependencies and the edition. */
const VARINT_FIELDS = new Set([10, 11, 14]);

function parseFile(binary: Buffer, start: number): FoundFile | undefined {
  const reader = Reader.create(binary.subarray(start, Math.min(binary.length, start + (1 << 20))));
  const dependencies: string[] = [];
  let name = '';
  let last = 0;
  let end = 0;
  try {
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      const field = tag >>> 3;
      if (field < last || field < 1 || field > 14 || field === 13) break;
      if (
        (tag & 7) !== (VARINT_FIELDS.has(field) ? 0 : 2) ||
        (field === last && (field < 3 || field === 8 || field > 11))
      )
        break;
      if ((tag & 7) === 0) reader.uint32();
      else {
        const value = reader.bytes();
        if (field === 1) name = Buffer.from(value).toString('latin1');
        if (field === 3) dependencies.push(Buffer.from(value).toString('latin1'));
        if (field === 12 && !['proto2', 'proto3', 'editions'].includes(Buffer.from(value).toString('latin1'))) break;
      }
      last = field;
      end = reader.pos;
    }
  } catch {
    // ran over the end of the window: what was read up to `end` stands
  }
  return last >= 2 ? { name, dependencies, bytes: binary.subarray(start, start + end) } : undefined;
}

/** The files of `all` that configuration needs, each after its dependencies. Throws DESCRIPTORS_INCOMPLETE when a dependency is missing. */
export function configClosure(all: readonly FoundFile[]): FoundFile[] {
  const byName = new Map(all.map((file) => [file.name, file]));
  const out = new Map<string, FoundFile>();
  const visit = (name: string, from: string) => {
    if (out.has(name)) return;
    const file = byName.get(name);
    if (file === undefined)
      throw new MeshError('DESCRIPTORS_INCOMPLETE', `the binary has no descriptor of ${name}, which ${from} imports`);
    for (const dependency of file.dependencies) visit(dependency, name);
    out.set(name, file);
  };
  for (const file of all) {
    if (ROOTS.test(file.name) && !NEVER_CONFIG.some((pattern) => pattern.test(file.name)))
      visit(file.name, 'the list of roots');
  }
  return [...out.values()];
}

/** A serialized google.protobuf.FileDescriptorSet: field 1, repeated. */
export function toDescriptorSet(files: readonly FoundFile[]): Uint8Array {
  const writer = Writer.create();
  for (const file of files) writer.uint32(0x0a).bytes(file.bytes);
  return writer.finish();
}

if (process.argv[1] !== undefined && fileURLToPath(import.meta.url) === realpathSync(process.argv[1])) {
  const [binary, target] = process.argv.slice(2);
  if (binary === undefined || target === undefined) {
    console.error('usage: descriptors.ts ENVOY_BINARY TARGET');
    process.exit(64);
  }
  const all = findDescriptors(readFileSync(binary));
  const files = configClosure(all);
  const set = toDescriptorSet(files);
  await writeFileAtomic(target, set, 0o644);
  console.log(`${all.length} descriptors in the binary, ${files.length} kept, ${set.length} bytes`);
}

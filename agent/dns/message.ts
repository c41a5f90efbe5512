import packet from 'dns-packet';

/** One DNS query as it came in, RFC 1035 4.1. `raw` is kept for forwarding. */
export interface Query {
  readonly id: number;
  /** Lower-case, no trailing dot; '' is the root. A label with a byte that no host name has is kept as `\DDD`, so that it matches nothing. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  readonly opcode: number;
  readonly recursionDesired: boolean;
  /** UDP payload that the asker takes: EDNS's (RFC 6891), at least 512. */
  readonly udpLimit: number;
  readonly edns: boolean;
  readonly raw: Buffer;
}

/** What to answer. Records are A and AAAA of the queried name. */
export interface Answer {
  readonly rcode: Rcode;
  readonly addresses: readonly string[];
  /** Seconds. */
  readonly ttl: number;
  /** Negative answers carry this zone's SOA, so that they may be cached for `ttl` (RFC 2308). */
  readonly zone?: string;
}

export const RCODE = { noError: 0, formErr: 1, servFail: 2, nxDomain: 3, notImp: 4, refused: 5 } as const;
export type Rcode = (typeof RCODE)[keyof typeof RCODE];
export const TYPE = { a: 1, aaaa: 28, any: 255, opt: 41 } as const;
export const CLASS_IN = 1;

const HEADER_BYTES = 12;
const FLAG = {
  response: 0x8000,
  authoritative: 0x0400,
  truncated: 0x0200,
  recursionDesired: 0x0100,
  recursionAvailable: 0x0080,
};
/** What we say we take by UDP: below every usual MTU (DNS flag day 2020). */
const OUR_UDP_LIMIT = 1232;
const MAX_UDP_LIMIT = 4096;

/** `drop`: say nothing (not a query at all, or a response: answering it could make two servers talk for ever). */
export type ParsedQuery = { readonly query: Query } | { readonly error: Rcode; readonly id: number } | 'drop';

/** Reads a query off the wire. Input is any local process's: bounds are checked at each step, never throws. */
export function parseQuery(raw: Buffer): ParsedQuery {
  if (raw.length < HEADER_BYTES) return 'drop';
  const flags = raw.readUInt16BE(2);
  if ((flags & FLAG.response) !== 0) return 'drop';
  const id = raw.readUInt16BE(0);
  const opcode = (flags >> 11) & 15;
  if (opcode !== 0) return { error: RCODE.notImp, id };
  if (raw.readUInt16BE(4) !== 1) return { error: RCODE.formErr, id };
  const question = parseQuestion(raw);
  if (question === undefined) return { error: RCODE.formErr, id };
  const edns = raw.readUInt16BE(10) > 0 ? ednsLimit(raw) : undefined;
  if (edns === 'broken') return { error: RCODE.formErr, id };
  return {
    query: {
      id,
      ...question,
      opcode,
      recursionDesired: (flags & FLAG.recursionDesired) !== 0,
      udpLimit: Math.min(MAX_UDP_LIMIT, Math.max(512, edns ?? 512)),
      edns: edns !== undefined,
      raw,
    },
  };
}

/** Name, type and class of the first question; undefined when it is cut off, compressed or longer than 255 bytes. */
export function parseQuestion(raw: Buffer): { name: string; type: number; class: number } | undefined {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (;;) {
    const length = raw[at];
    if (length === undefined || length > 63 || at - HEADER_BYTES > 255) return undefined;
    at++;
    if (length === 0) break;
    if (at + length > raw.length) return undefined;
    labels.push(labelText(raw.subarray(at, at + length)));
    at += length;
  }
  if (at + 4 > raw.length) return undefined;
  return { name: labels.join('.'), type: raw.readUInt16BE(at), class: raw.readUInt16BE(at + 2) };
}

function labelText(label: Buffer): string {
  let text = '';
  for (const byte of label) {
    const char = String.fromCharCode(byte).toLowerCase();
    text += /[-a-z0-9_*]/.test(char) ? char : `\\${String(byte).padStart(3, '0')}`;
  }
  return text;
}

/** The OPT record's payload size, or undefined when there is none. dns-packet reads the records; it throws on anything malformed. */
function ednsLimit(raw: Buffer): number | undefined | 'broken' {
  try {
    const opt = packet.decode(raw).additionals?.find((record) => record.type === 'OPT');
    return opt === undefined ? undefined : (opt as packet.OptAnswer).udpPayloadSize;
  } catch {
    return 'broken';
  }
}

/** Bytes of an answer to `query`; over `limit` bytes it is cut to the question with TC set, so that the asker comes back by TCP. */
export function encodeAnswer(query: Query, answer: Answer, limit: number): Buffer {
  const name = query.name === '' ? '.' : query.name;
  const negative = answer.addresses.length === 0 && answer.zone !== undefined;
  const message = (records: readonly string[], flags: number) =>
    packet.encode({
      id: query.id,
      type: 'response',
      flags: flags | FLAG.recursionAvailable | (query.recursionDesired ? FLAG.recursionDesired : 0) | answer.rcode,
      questions: [],
      answers: records.map((address) => ({
        name,
        type: address.includes(':') ? 'AAAA' : 'A',
        ttl: answer.ttl,
        data: address,
      })),
      authorities: negative ? [startOfAuthority(answer.zone ?? '', answer.ttl)] : [],
      additionals: query.edns
        ? [
            {
              type: 'OPT',
              name: '.',
              udpPayloadSize: OUR_UDP_LIMIT,
              extendedRcode: 0,
              ednsVersion: 0,
              flags: 0,
              flag_do: false,
              options: [],
            },
          ]
        : [],
    } as packet.Packet);
  const flags = answer.zone === undefined ? 0 : FLAG.authoritative;
  const full = withQuestion(message(answer.addresses, flags), query);
  return full.length <= limit ? full : withQuestion(message([], flags | FLAG.truncated), query);
}

/** The question goes back byte for byte as it was asked (0x20 mixing of case, odd bytes); records that name it stand in full after it. */
function withQuestion(message: Buffer, query: Query): Buffer {
  const question = query.raw.subarray(HEADER_BYTES, questionEnd(query.raw));
  const head = Buffer.from(message.subarray(0, HEADER_BYTES));
  head.writeUInt16BE(1, 4);
  return Buffer.concat([head, question, message.subarray(HEADER_BYTES)]);
}

function questionEnd(raw: Buffer): number {
  let at = HEADER_BYTES;
  while (raw[at] !== 0) at += (raw[at] ?? 0) + 1;
  return at + 5;
}

/** An error for a packet whose question could not be read: header only. */
export function encodeError(id: number, rcode: Rcode): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head.writeUInt16BE(id, 0);
  head.writeUInt16BE(FLAG.response | rcode, 2);
  return head;
}

function startOfAuthority(zone: string, ttl: number): packet.SoaAnswer {
  const data = {
    mname: `ns.${zone}`,
    rname: `mesh.${zone}`,
    serial: 1,
    refresh: 3600,
    retry: 600,
    expire: 86_400,
    minimum: ttl,
  };
  return { type: 'SOA', name: zone, ttl, data };
}

/** Whether `response` is one to the forwarded query: RFC 5452 9.1 (id, question; the socket is connected, so the server is given). */
export function isResponseTo(response: Buffer, id: number, query: Query): boolean {
  if (response.length < HEADER_BYTES || response.readUInt16BE(0) !== id) return false;
  if ((response.readUInt16BE(2) & FLAG.response) === 0) return false;
  if (response.readUInt16BE(4) === 0) return (response.readUInt16BE(2) & 15) !== RCODE.noError; // an error may come without its question
  const question = parseQuestion(response);
  return question?.name === query.name && question.type === query.type && question.class === query.class;
}

/** A copy with another id. */
export function withId(raw: Buffer, id: number): Buffer {
  const copy = Buffer.from(raw);
  copy.writeUInt16BE(id, 0);
  return copy;
}

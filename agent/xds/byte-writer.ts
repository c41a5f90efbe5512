/** A writer's buffer at first. */
const FIRST_BYTES = 1 << 16;
/** A larger one is not kept. */
const KEPT_BYTES = 1 << 20;

/** Lengths of strings that are written one by one: for short ASCII that is faster than asking the runtime. */
const SHORT = 48;

/**
 * Protobuf's wire format into one growing buffer, used again for the next message. A message inside another is written in its place between
 * `begin` and `end`, its length put before it at last. Source: protobuf, "Encoding".
 */
export class ByteWriter {
  private buffer = new Uint8Array(FIRST_BYTES);
  private view = new DataView(this.buffer.buffer);
  private at = 0;
  /** Nothing was written from here on. */
  private high = 0;

  /** A non-negative integer below 2^53. */
  varint(value: number): void {
    this.room(8);
    let rest = value;
    while (rest > 0x7fffffff) {
      this.buffer[this.at++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    while (rest > 127) {
      this.buffer[this.at++] = (rest & 127) | 0x80;
      rest >>>= 7;
    }
    this.buffer[this.at++] = rest;
  }

  /** Any 64 bits: a negative number is its two's complement. */
  varint64(value: bigint): void {
    this.room(10);
    let rest = BigInt.asUintN(64, value);
    while (rest > 127n) {
      this.buffer[this.at++] = Number(rest & 127n) | 0x80;
      rest >>= 7n;
    }
    this.buffer[this.at++] = Number(rest);
  }

  fixed32(value: number): void {
    this.room(4);
    this.view.setUint32(this.at, value, true);
    this.at += 4;
  }

  fixed64(value: bigint): void {
    this.room(8);
    this.view.setBigUint64(this.at, BigInt.asUintN(64, value), true);
    this.at += 8;
  }

  float(value: number): void {
    this.room(4);
    this.view.setFloat32(this.at, value, true);
    this.at += 4;
  }

  double(value: number): void {
    this.room(8);
    this.view.setFloat64(this.at, value, true);
    this.at += 8;
  }

  /** Length and UTF-8. */
  string(text: string): void {
    if (text.length > SHORT || !this.shortAscii(text)) this.bytes(Buffer.from(text, 'utf8'));
  }

  /** Length and bytes. */
  bytes(bytes: Uint8Array): void {
    this.varint(bytes.length);
    this.room(bytes.length);
    this.buffer.set(bytes, this.at);
    this.at += bytes.length;
  }

  /** Begins a length-delimited field's content; give what it returns to `end`. */
  begin(): number {
    this.room(1);
    return ++this.at;
  }

  end(begun: number): void {
    const length = this.at - begun;
    if (length > 127) {
      const extra = sizeOf(length) - 1;
      this.room(extra);
      this.buffer.copyWithin(begun + extra, begun, this.at);
      this.at = begun - 1;
      this.varint(length);
      this.at += length;
    } else this.buffer[begun - 1] = length;
  }

  /** A copy of what was written from `begun` on. */
  since(begun: number): Uint8Array {
    return this.buffer.slice(begun, this.at);
  }

  /** Takes back what was written from `begun` on. */
  back(begun: number): void {
    this.at = begun;
  }

  /** Where the next byte goes. */
  get place(): number {
    return this.at;
  }

  /** Empty again; what was written, which may be a private key, is gone from the buffer. */
  clear(): void {
    if (this.buffer.length > KEPT_BYTES) this.renew(FIRST_BYTES);
    else this.buffer.fill(0, 0, this.high);
    this.at = 0;
    this.high = 0;
  }

  /** False, with nothing written, where a character is not ASCII. */
  private shortAscii(text: string): boolean {
    this.room(SHORT + 1);
    const { buffer } = this;
    let at = this.at + 1;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code > 127) return false;
      buffer[at++] = code;
    }
    buffer[this.at] = text.length;
    this.at = at;
    return true;
  }

  private room(bytes: number): void {
    const end = this.at + bytes;
    if (end > this.high) this.high = end;
    if (end <= this.buffer.length) return;
    const written = this.buffer.subarray(0, this.at);
    this.renew(Math.max(this.buffer.length * 2, end));
    this.buffer.set(written);
  }

  private renew(bytes: number): void {
    this.buffer = new Uint8Array(bytes);
    this.view = new DataView(this.buffer.buffer);
  }
}

/** Bytes of a length as varint. */
function sizeOf(length: number): number {
  let size = 1;
  for (let rest = length; rest > 127; rest = Math.floor(rest / 128)) size++;
  return size;
}

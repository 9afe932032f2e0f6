/**
 * A raw conversation with a server, and binary packets made and read without the product's code:
 * our serializer must never make the expectation for our parser. Every wait has a deadline, and
 * what ended a wait (match, close, reset, deadline) is a value that tests can compare.
 */
import { createConnection, createServer, type Socket } from "node:net";
import { endpoint } from "./processes.ts";

const DEADLINE_MS = 5_000;

export type Ended = "matched" | "closed" | "reset" | "deadline";
export type Read = { bytes: Buffer; ended: Ended };
/** `"bytes"` cuts after every byte; numbers are the offsets to cut at. */
export type Split = "whole" | "bytes" | readonly number[];

export function connect(address: string, deadlineMs = DEADLINE_MS): Promise<Wire> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ ...endpoint(address), allowHalfOpen: true });
    const giveUp = setTimeout(() => {
      socket.destroy();
      reject(new Error(`no connection to ${address} within ${deadlineMs} ms`));
    }, deadlineMs);
    socket.setNoDelay(true);
    socket.once("error", (error) => {
      clearTimeout(giveUp);
      reject(error);
    });
    socket.once("connect", () => {
      clearTimeout(giveUp);
      resolve(new Wire(socket));
    });
  });
}

export class Wire {
  readonly socket: Socket;
  #chunks: Buffer[] = [];
  #size = 0;
  #state: "open" | "closed" | "reset" = "open";
  #wake: () => void = () => {};

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#size += chunk.length;
      this.#wake();
    });
    socket.on("end", () => this.#over("closed"));
    socket.on("error", () => this.#over("reset"));
    socket.on("close", () => this.#over("closed"));
  }

  get state(): "open" | "closed" | "reset" {
    return this.#state;
  }

  /** Bytes received and not yet read by the test. */
  get unreadSize(): number {
    return this.#size;
  }

  /** Resolves when the bytes are handed to the kernel, or at once when the server is gone. */
  async send(bytes: Buffer | string, split: Split = "whole"): Promise<void> {
    for (const piece of pieces(toBytes(bytes), split)) {
      if (this.#state === "reset" || this.socket.destroyed) return;
      await new Promise<void>((resolve) => this.socket.write(piece, () => resolve()));
      // A turn of the loop between two pieces, so that the other side reads them one by one.
      if (split !== "whole") await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Waits until what was received ends with `ending`. */
  readUntil(ending: Buffer | string, deadlineMs = DEADLINE_MS): Promise<Read> {
    const wanted = toBytes(ending);
    return this.#wait(() => this.#tail(wanted.length).equals(wanted), deadlineMs);
  }

  /** Waits for `size` bytes and leaves later ones unread. */
  async read(size: number, deadlineMs = DEADLINE_MS): Promise<Read> {
    const { bytes, ended } = await this.#wait(() => this.#size >= size, deadlineMs);
    if (bytes.length > size) {
      this.#chunks.unshift(bytes.subarray(size));
      this.#size += bytes.length - size;
    }
    return { bytes: bytes.subarray(0, size), ended };
  }

  /** Reads until the server closes; `ended` is never "matched". */
  readToClose(deadlineMs = DEADLINE_MS): Promise<Read> {
    return this.#wait(() => false, deadlineMs);
  }

  /** Reads until nothing came for `quietMs`. Only for servers that are expected to say nothing. */
  async readQuiet(quietMs = 150): Promise<Read> {
    let seen = -1;
    while (this.#size !== seen && this.#state === "open") {
      seen = this.#size;
      await new Promise((resolve) => setTimeout(resolve, quietMs));
    }
    return this.#wait(() => true, 0);
  }

  /** Sends and reads up to `ending`; anything else is an error that shows what came instead. */
  async ask(bytes: Buffer | string, ending: Buffer | string): Promise<Buffer> {
    await this.send(bytes);
    const read = await this.readUntil(ending);
    if (read.ended === "matched") return read.bytes;
    throw new Error(`${read.ended} instead of ${printable(ending)}: ${printable(read.bytes)}`);
  }

  /** The next binary packet; undefined when the server closed or did not send a whole one. */
  async packet(): Promise<Packet | undefined> {
    const header = (await this.read(HEADER_SIZE)).bytes;
    if (header.length < HEADER_SIZE) return undefined;
    const body = (await this.read(header.readUInt32BE(8))).bytes;
    return readPackets(Buffer.concat([header, body])).packets[0];
  }

  /** One text line asked and answered, without its CRLF. */
  async line(command: string): Promise<string> {
    return (await this.ask(`${command}\r\n`, "\r\n")).toString("latin1").slice(0, -2);
  }

  /** Half-close: we have nothing more to say, but still listen. */
  finish(): void {
    this.socket.end();
  }

  /** Ends with RST, as a crashed client does. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  close(): void {
    this.socket.destroy();
  }

  #tail(size: number): Buffer {
    if (this.#size < size) return Buffer.alloc(0);
    let last = this.#chunks.at(-1) ?? Buffer.alloc(0);
    while (last.length < size) {
      this.#chunks.splice(-2, 2, Buffer.concat(this.#chunks.slice(-2)));
      last = this.#chunks.at(-1) ?? last;
    }
    return last.subarray(last.length - size);
  }

  #over(state: "closed" | "reset"): void {
    if (this.#state === "open") this.#state = state;
    this.#wake();
  }

  #wait(isEnough: () => boolean, deadlineMs: number): Promise<Read> {
    return new Promise((resolve) => {
      const settle = (ended: Ended): void => {
        clearTimeout(giveUp);
        this.#wake = () => {};
        const bytes = Buffer.concat(this.#chunks);
        this.#chunks = [];
        this.#size = 0;
        resolve({ bytes, ended });
      };
      const giveUp = setTimeout(() => settle("deadline"), deadlineMs);
      this.#wake = () => {
        if (isEnough()) settle("matched");
        else if (this.#state !== "open") settle(this.#state);
      };
      this.#wake();
    });
  }
}

function* pieces(bytes: Buffer, split: Split): Generator<Buffer> {
  const cuts = split === "whole" ? [] : split === "bytes" ? bytes.keys() : split;
  let start = 0;
  for (const cut of cuts) {
    if (cut <= start || cut >= bytes.length) continue;
    yield bytes.subarray(start, cut);
    start = cut;
  }
  yield bytes.subarray(start);
}

export type Relay = { address: string; stop(): Promise<void> };

/**
 * A TCP front of another address: for clients that know no unix sockets, or no login (`dial`
 * answers a connection that is already logged in). `change` may falsify what the server says.
 */
export async function startRelay({
  dial,
  change = (chunk) => chunk,
  overhear = () => {},
}: {
  dial: () => Promise<Wire>;
  change?: (chunk: Buffer) => Buffer;
  /** Sees what clients send; `connection` counts from 0. */
  overhear?: (chunk: Buffer, connection: number) => void;
}): Promise<Relay> {
  const sockets = new Set<Socket>();
  let connectionCount = 0;
  const join = async (near: Socket): Promise<void> => {
    const connection = connectionCount++;
    const far = (await dial()).socket;
    far.removeAllListeners("data");
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => {
        near.destroy();
        far.destroy();
      });
      socket.on("close", () => sockets.delete(socket));
    }
    far.on("data", (chunk: Buffer) => near.write(change(chunk)));
    far.on("end", () => near.end());
    near.on("data", (chunk: Buffer) => overhear(chunk, connection));
    near.pipe(far);
  };
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (near) => {
    near.on("error", () => near.destroy());
    join(near).then(
      () => near.resume(),
      () => near.destroy(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new Error("the relay has no port");
  const stop = (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(() => resolve()));
  };
  return { address: `127.0.0.1:${bound.port}`, stop };
}

/** Opcodes of protocol_binary.h, by the names its documentation uses. */
export const OPCODE = {
  get: 0x00,
  set: 0x01,
  add: 0x02,
  replace: 0x03,
  delete: 0x04,
  increment: 0x05,
  decrement: 0x06,
  quit: 0x07,
  flush: 0x08,
  getq: 0x09,
  noop: 0x0a,
  version: 0x0b,
  getk: 0x0c,
  getkq: 0x0d,
  append: 0x0e,
  prepend: 0x0f,
  stat: 0x10,
  setq: 0x11,
  addq: 0x12,
  replaceq: 0x13,
  deleteq: 0x14,
  incrementq: 0x15,
  decrementq: 0x16,
  quitq: 0x17,
  flushq: 0x18,
  appendq: 0x19,
  prependq: 0x1a,
  verbosity: 0x1b,
  touch: 0x1c,
  gat: 0x1d,
  gatq: 0x1e,
  saslList: 0x20,
  saslAuth: 0x21,
  saslStep: 0x22,
  gatk: 0x23,
  gatkq: 0x24,
} as const;

const HEADER_SIZE = 24;
const NAME_OF = new Map<number, string>(Object.entries(OPCODE).map(([name, code]) => [code, name]));

export type PacketFields = {
  opcode: keyof typeof OPCODE | number;
  key?: string | Buffer;
  extras?: Buffer;
  value?: string | Buffer;
  opaque?: number;
  cas?: bigint;
  /** Lies about the shape, for bad input. */
  magic?: number;
  dataType?: number;
  vbucket?: number;
  keySize?: number;
  extrasSize?: number;
  bodySize?: number;
};

export function packet(fields: PacketFields): Buffer {
  const key = toBytes(fields.key ?? "");
  const value = toBytes(fields.value ?? "");
  const extras = fields.extras ?? Buffer.alloc(0);
  const opcode = typeof fields.opcode === "number" ? fields.opcode : OPCODE[fields.opcode];
  const header = Buffer.alloc(HEADER_SIZE);
  header.writeUInt8(fields.magic ?? 0x80, 0);
  header.writeUInt8(opcode, 1);
  header.writeUInt16BE(fields.keySize ?? key.length, 2);
  header.writeUInt8(fields.extrasSize ?? extras.length, 4);
  header.writeUInt8(fields.dataType ?? 0, 5);
  header.writeUInt16BE(fields.vbucket ?? 0, 6);
  header.writeUInt32BE(fields.bodySize ?? extras.length + key.length + value.length, 8);
  header.writeUInt32BE(fields.opaque ?? 0, 12);
  header.writeBigUInt64BE(fields.cas ?? 0n, 16);
  return Buffer.concat([header, extras, key, value]);
}

export type Packet = {
  magic: number;
  opcode: number;
  dataType: number;
  status: number;
  opaque: number;
  cas: bigint;
  extras: Buffer;
  key: Buffer;
  value: Buffer;
};

/** The packets at the start of `bytes`, and what is left behind the last whole one. */
export function readPackets(bytes: Buffer): { packets: Packet[]; rest: Buffer } {
  const packets: Packet[] = [];
  let at = 0;
  while (bytes.length - at >= HEADER_SIZE) {
    const keyStart = at + HEADER_SIZE + bytes.readUInt8(at + 4);
    const valueStart = keyStart + bytes.readUInt16BE(at + 2);
    const end = at + HEADER_SIZE + bytes.readUInt32BE(at + 8);
    if (end > bytes.length || valueStart > end) break;
    packets.push({
      magic: bytes.readUInt8(at),
      opcode: bytes.readUInt8(at + 1),
      dataType: bytes.readUInt8(at + 5),
      status: bytes.readUInt16BE(at + 6),
      opaque: bytes.readUInt32BE(at + 12),
      cas: bytes.readBigUInt64BE(at + 16),
      extras: bytes.subarray(at + HEADER_SIZE, keyStart),
      key: bytes.subarray(keyStart, valueStart),
      value: bytes.subarray(valueStart, end),
    });
    at = end;
  }
  return { packets, rest: bytes.subarray(at) };
}

/** One packet on one line, every field in it, so that equal lines mean equal bytes. */
export function printPacket(packet: Packet): string {
  const hex = (number: number | bigint, size: number) => number.toString(16).padStart(size, "0");
  const name = NAME_OF.get(packet.opcode) ?? hex(packet.opcode, 2);
  const magic = packet.magic === 0x81 ? "" : `magic=${hex(packet.magic, 2)} `;
  const type = packet.dataType === 0 ? "" : ` type=${packet.dataType}`;
  const parts = [`${magic}${name} status=${hex(packet.status, 4)}${type}`];
  parts.push(`opaque=${hex(packet.opaque, 8)} cas=${hex(packet.cas, 16)}`);
  if (packet.extras.length > 0) parts.push(`extras=${packet.extras.toString("hex")}`);
  if (packet.key.length > 0) parts.push(`key="${printable(packet.key)}"`);
  if (packet.value.length > 0) parts.push(`value="${printable(packet.value)}"`);
  return parts.join(" ");
}

/** SASL PLAIN, RFC 4616. libmemcached repeats the username as authorization identity. */
export function saslPlain(login: { username: string; password: string }, authzid = ""): Buffer {
  const value = `${authzid}\0${login.username}\0${login.password}`;
  return packet({ opcode: "saslAuth", key: "PLAIN", value });
}

/** Strings of this module are bytes: one character each. */
export function toBytes(text: Buffer | string): Buffer {
  return typeof text === "string" ? Buffer.from(text, "latin1") : text;
}

/** Bytes as a reader of a failed test wants them; different bytes print differently. */
export function printable(bytes: Buffer | string): string {
  const text = typeof bytes === "string" ? bytes : bytes.toString("latin1");
  return text.replace(/[^ -~]|\\/g, (char) => {
    if (char === "\r") return "\\r";
    if (char === "\n") return "\\n";
    if (char === "\\") return "\\\\";
    return `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
}

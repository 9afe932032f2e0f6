/**
 * Takes keys out of a memcached that its shard no longer owns: memcached names all that it has
 * (`lru_crawler metadump hash` walks the table and not the LRU lists, between which items move), and
 * what must go is deleted over a second connection, in the binary dialect, which takes keys of any
 * bytes.
 */
import { once } from "node:events";
import { createConnection, type NetConnectOpts, type Socket } from "node:net";
import { HEADER_SIZE, Header, MAGIC_REQUEST, Opcode } from "../../core/protocol/binary.ts";
import { clock, sleep } from "../../core/runtime/clock.ts";
import type { Keeps } from "../engine.ts";

/** Without a byte for so long it is given up. */
const SILENT_MS_MAX = 5_000;
const BUSY_MS = 50;
/** Its crawler may be at work for somebody else. */
const BUSY_TOTAL_MS_MAX = 5_000;
const LINE_SIZE_MAX = 4096;
const LF = 0x0a;

/** Returns how many keys were taken out. Rejects when it is not known that all are. */
export async function purge(endpoint: NetConnectOpts, keeps: Keeps): Promise<number> {
  const giveUpAtMs = clock.nowMs() + BUSY_TOTAL_MS_MAX;
  for (;;) {
    const removed = await purgeOnce(endpoint, keeps);
    if (removed !== undefined) return removed;
    if (clock.nowMs() > giveUpAtMs) throw new Error("its crawler is busy");
    await sleep(BUSY_MS);
  }
}

/** Undefined when the crawler is busy. */
async function purgeOnce(endpoint: NetConnectOpts, keeps: Keeps): Promise<number | undefined> {
  const sockets = [connect(endpoint), connect(endpoint)] as const;
  const [listing, deleting] = sockets;
  try {
    // Refused deletions (of what is gone by now) are answered before the noop, which is the last.
    let tail = Buffer.alloc(0);
    deleting.on("data", (chunk: Buffer) => {
      tail = Buffer.concat([tail, chunk]).subarray(-HEADER_SIZE);
    });
    const closed = once(deleting, "close").then(() => Promise.reject(new Error("closed early")));
    closed.catch(() => {}); // It may be over when nobody waits any more.
    listing.write("lru_crawler metadump hash\r\n");
    let removed = 0;
    for await (const line of linesOf(listing)) {
      if (line.startsWith("BUSY")) return undefined;
      if (line === "END") break;
      const found = /^key=(\S+) /.exec(line);
      if (found === null) throw new Error(`unexpected answer: ${line.slice(0, 80)}`);
      const key = keyOf(found[1]!);
      if (keeps(key, 0, key.length)) continue;
      removed++;
      const isFull = !deleting.write(packet(Opcode.deleteq, key));
      if (isFull) await Promise.race([closed, once(deleting, "drain")]);
    }
    deleting.write(packet(Opcode.noop));
    while (tail[Header.opcode] !== Opcode.noop)
      await Promise.race([closed, once(deleting, "data")]);
    return removed;
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

function connect(endpoint: NetConnectOpts): Socket {
  const socket = createConnection(endpoint);
  socket.setTimeout(SILENT_MS_MAX, () => socket.destroy(new Error("it says nothing")));
  socket.on("error", () => {}); // Whoever waits for it is told, too.
  return socket;
}

/** Ends with an error when the connection does before `END`. */
async function* linesOf(socket: Socket): AsyncGenerator<string> {
  let rest = Buffer.alloc(0);
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    rest = Buffer.concat([rest, chunk]);
    let from = 0;
    for (let end = rest.indexOf(LF); end >= 0; end = rest.indexOf(LF, from)) {
      yield rest.toString("latin1", from, end).trimEnd();
      from = end + 1;
    }
    rest = rest.subarray(from);
    if (rest.length > LINE_SIZE_MAX) throw new Error("a line without an end");
  }
  throw new Error("closed before the end of the list");
}

/** As memcached writes it: what is no letter, digit or `-._~` stands as `%` and two digits. */
function keyOf(text: string): Buffer {
  const plain = text.replaceAll(/%([0-9A-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(plain, "latin1");
}

function packet(opcode: number, key: Buffer = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(HEADER_SIZE + key.length);
  bytes[Header.magic] = MAGIC_REQUEST;
  bytes[Header.opcode] = opcode;
  bytes.writeUInt16BE(key.length, Header.keySize);
  bytes.writeUInt32BE(key.length, Header.bodySize);
  key.copy(bytes, HEADER_SIZE);
  return bytes;
}

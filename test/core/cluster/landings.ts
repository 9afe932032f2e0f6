/**
 * Asks a stranger where keys belong: stores them through a real nutcracker in front of real
 * memcached servers and looks on which of them each key landed. Used by the live test and by
 * `vectors/record.ts`.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { Random } from "../../../core/runtime/random.ts";
import { endpoint, startMemcached, startNutcracker } from "../../harness/processes.ts";

const KEY_SIZE_MAX = 250;
/** What a key of the text protocol may hold: no space, no control bytes, all from 0x80 on. */
const KEY_BYTES = [...Array(256).keys()].filter((byte) => byte > 0x20 && byte !== 0x7f);
const KEYS_PER_REQUEST = 100;

/** Different keys of every length, of all bytes that the text protocol can carry. */
export function makeKeys(count: number, random: Random): Buffer[] {
  const pick = () => KEY_BYTES[Math.floor(random.next() * KEY_BYTES.length)] as number;
  const keys = new Map<string, Buffer>();
  while (keys.size < count) {
    const size = 1 + (keys.size % KEY_SIZE_MAX);
    const key = Buffer.from(Array.from({ length: size }, pick));
    keys.set(key.toString("latin1"), key);
  }
  return [...keys.values()];
}

/** For each key the name of the node that nutcracker gave it to. */
export async function landings(
  nodes: readonly { name: string; weight: number }[],
  keys: readonly Buffer[],
): Promise<string[]> {
  const parts: { stop(): Promise<void> }[] = [];
  try {
    const servers: string[] = [];
    const addresses: string[] = [];
    for (const { name, weight } of nodes) {
      const memcached = await startMemcached();
      parts.push(memcached);
      addresses.push(memcached.address);
      servers.push(`${memcached.address}:${weight} ${name}`);
    }
    const pool = { servers, hash: "murmur", distribution: "ketama" };
    const nutcracker = await startNutcracker({ pools: { pool } });
    parts.push(nutcracker);

    const texts = keys.map((key) => key.toString("latin1"));
    await store(Object.values(nutcracker.addresses)[0] as string, texts);
    const held = await Promise.all(addresses.map((address) => heldBy(address, texts)));
    return texts.map((key) => {
      const holders = nodes.filter((_, index) => held[index]?.has(key));
      if (holders[0] === undefined || holders.length > 1) {
        throw new Error(`${holders.length} nodes hold ${JSON.stringify(key)}`);
      }
      return holders[0].name;
    });
  } finally {
    await Promise.all(parts.map((part) => part.stop()));
  }
}

async function store(address: string, keys: readonly string[]): Promise<void> {
  const socket = await connected(address);
  for (const batch of batches(keys)) {
    const request = batch.map((key) => `set ${key} 0 0 1\r\n1\r\n`).join("");
    const expected = "STORED\r\n".repeat(batch.length);
    const reply = await ask(socket, request, (heard) => heard.length >= expected.length);
    if (reply !== expected) throw new Error(`nutcracker answers ${reply}`);
  }
  socket.destroy();
}

async function heldBy(address: string, keys: readonly string[]): Promise<Set<string>> {
  const socket = await connected(address);
  const held = new Set<string>();
  for (const batch of batches(keys)) {
    const reply = await ask(socket, `get ${batch.join(" ")}\r\n`, (heard) =>
      heard.endsWith("END\r\n"),
    );
    // Not \S: byte 0xa0 would count as a space.
    for (const [, key] of reply.matchAll(/VALUE ([^ \r\n]+) 0 1\r\n/g)) held.add(key as string);
  }
  socket.destroy();
  return held;
}

function* batches(keys: readonly string[]): Generator<string[]> {
  for (let from = 0; from < keys.length; from += KEYS_PER_REQUEST) {
    yield keys.slice(from, from + KEYS_PER_REQUEST);
  }
}

async function connected(address: string): Promise<Socket> {
  const socket = connect(endpoint(address)).setEncoding("latin1");
  await once(socket, "connect");
  return socket;
}

function ask(socket: Socket, request: string, isWhole: (heard: string) => boolean) {
  return new Promise<string>((resolve, reject) => {
    let reply = "";
    const closed = () => reject(new Error(`closed after ${JSON.stringify(reply)}`));
    const heard = (chunk: string) => {
      reply += chunk;
      if (!isWhole(reply)) return;
      socket.off("data", heard).off("close", closed);
      resolve(reply);
    };
    socket.on("data", heard).once("close", closed);
    socket.write(request, "latin1");
  });
}

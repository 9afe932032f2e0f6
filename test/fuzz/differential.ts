/**
 * The same stream sent to a real memcached and to Memward: the replies must be equal. A damaged
 * stream has no expected reply, but it must not harm anybody else: sessions that come after it
 * get their own answers, and no shard connection may fail. A lost or surplus reply of a shard shows
 * there at once, because all sessions of a cache share its connections.
 */
import { connect, packet, printable, readPackets, type Wire } from "../harness/wire.ts";
import type { FuzzedProxy, Servers } from "./servers.ts";
import { joined, newTag, referenceOf, type Stream, type StreamDialect, withTag } from "./stream.ts";
import { binaryTranscript, textTranscript } from "./transcript.ts";

const REPLY_DEADLINE_MS = 2_000;
/** Sendings that must all fail: one of them may suffer from a busy machine. */
export const ATTEMPT_COUNT = 3;
const LAST_OPAQUE = 0xffff_fffe;

/** How a stream was answered wrongly, in lines for a reader. */
export type Finding = string[];

/** `tag` is for the first attempt: a repetition must not meet what the first has stored. */
export type Sending = { tag: string; attemptCount: number };

export async function compare(
  stream: Stream,
  servers: Servers,
  { tag, attemptCount }: Sending,
): Promise<Finding | null> {
  for (const [index, proxy] of servers.proxies.entries()) {
    // The reference would meet what it stored when the proxy before was compared with it.
    const firstTag = index === 0 ? tag : newTag();
    let finding = await compareOnce(stream, servers.reference, proxy, firstTag);
    for (let attempt = 1; finding !== null && attempt < attemptCount; attempt++) {
      finding = await compareOnce(stream, servers.reference, proxy, newTag());
    }
    if (finding !== null) return [proxy.name, ...finding];
  }
  return null;
}

async function compareOnce(
  stream: Stream,
  reference: string,
  proxy: FuzzedProxy,
  tag: string,
): Promise<Finding | null> {
  const { dialect, pieces, cuts } = stream;
  const [expected, got] = await Promise.all([
    replies(reference, dialect, withTag(referenceOf(pieces), tag), []),
    replies(proxy.address, dialect, withTag(joined(pieces), tag), cuts),
  ]);
  const answers = pieces.flatMap(({ answer }) => (answer === undefined ? [] : [answer]));
  const expectedLines = transcriptOf(dialect, expected, answers);
  return firstDifference(expectedLines, transcriptOf(dialect, got, []));
}

const transcriptOf = (dialect: StreamDialect, bytes: Buffer, answers: Buffer[]): string[] =>
  dialect === "text" ? textTranscript(bytes) : binaryTranscript(bytes, answers);

/** Everything answered to `bytes`, known to be complete by the answer to a last command. */
async function replies(
  address: string,
  dialect: StreamDialect,
  bytes: Buffer,
  cuts: readonly number[],
): Promise<Buffer> {
  const wire = await connect(address);
  const { question, answer } = LAST[dialect];
  await wire.send(Buffer.concat([bytes, question]), [...cuts]);
  const read = await wire.readUntil(answer, REPLY_DEADLINE_MS);
  wire.close();
  if (read.ended === "matched") return read.bytes;
  return Buffer.concat([read.bytes, Buffer.from(`<${read.ended}>`)]);
}

/** Answered by both with bytes that no stream asks for. */
const LAST = {
  text: {
    question: Buffer.from("ms the-end 0 k Othe-end\r\n\r\n"),
    answer: Buffer.from("HD kthe-end Othe-end\r\n"),
  },
  binary: {
    question: packet({ opcode: "noop", opaque: LAST_OPAQUE }),
    answer: packet({ opcode: "noop", opaque: LAST_OPAQUE, magic: 0x81 }),
  },
} as const;

function firstDifference(expected: readonly string[], got: readonly string[]): Finding | null {
  const size = Math.max(expected.length, got.length);
  for (let index = 0; index < size; index++) {
    if (expected[index] === got[index]) continue;
    return [
      `reply ${index} (${expected.length} expected, ${got.length} got)`,
      ...expected.slice(Math.max(0, index - 2), index).map((line) => `  both      ${line}`),
      ...expected.slice(index, index + 3).map((line) => `  memcached ${line}`),
      ...got.slice(index, index + 3).map((line) => `  memward   ${line}`),
    ];
  }
  return null;
}

// ---- damaged streams ------------------------------------------------------------------------

/** Sends `stream` to `address`, whatever it is, and looks whether anybody else notices. */
export async function harm(
  stream: Stream,
  proxy: FuzzedProxy,
  address: string,
  { tag, attemptCount }: Sending,
): Promise<Finding | null> {
  let finding = await harmOnce(stream, proxy, address, tag);
  for (let attempt = 1; finding !== null && attempt < attemptCount; attempt++) {
    finding = await harmOnce(stream, proxy, address, newTag());
  }
  return finding;
}

async function harmOnce(
  stream: Stream,
  proxy: FuzzedProxy,
  address: string,
  tag: string,
): Promise<Finding | null> {
  const before = await proxy.failures();
  const wire = await connect(address);
  await wire.send(withTag(joined(stream.pieces), tag), stream.cuts);
  wire.finish();
  const { ended } = await wire.readToClose(REPLY_DEADLINE_MS);
  wire.close();
  if (ended === "deadline") return ["the session did not end after the client had said all"];
  const witness = (await textWitness(proxy)) ?? (await binaryWitness(proxy));
  if (witness !== null) return witness;
  const after = await proxy.failures();
  const failed = Object.keys(after).filter((reason) => after[reason] !== (before[reason] ?? 0));
  return failed.length === 0 ? null : [`shard connections failed: ${failed.join(", ")}`];
}

/** Keys on every shard, asked for one by one: each link must be in step. */
const WITNESS_KEYS = Array.from({ length: 12 }, (_, index) => `witness-${index}`);

async function textWitness(proxy: FuzzedProxy): Promise<Finding | null> {
  const sent = WITNESS_KEYS.map(
    (key) => `set ${key} 0 0 9\r\nw ${key.slice(-2).padStart(7)}\r\nget ${key}\r\n`,
  );
  const expected = WITNESS_KEYS.map(
    (key) => `STORED\r\nVALUE ${key} 0 9\r\nw ${key.slice(-2).padStart(7)}\r\nEND\r\n`,
  );
  return witnessed(await connect(proxy.address), sent.join(""), Buffer.from(expected.join("")));
}

async function binaryWitness(proxy: FuzzedProxy): Promise<Finding | null> {
  const extras = Buffer.alloc(8);
  const sent = WITNESS_KEYS.flatMap((key, opaque) => [
    packet({ opcode: "setq", key: `b${key}`, value: key, extras }),
    packet({ opcode: "getk", key: `b${key}`, opaque }),
  ]);
  const flags = Buffer.alloc(4);
  const expected = WITNESS_KEYS.map((key, opaque) =>
    packet({ magic: 0x81, opcode: "getk", key: `b${key}`, value: key, extras: flags, opaque }),
  );
  const wire = await connect(proxy.address);
  return witnessed(wire, Buffer.concat(sent), Buffer.concat(expected), withoutCas);
}

async function witnessed(
  wire: Wire,
  sent: Buffer | string,
  expected: Buffer,
  steady: (bytes: Buffer) => Buffer = (bytes) => bytes,
): Promise<Finding | null> {
  await wire.send(sent);
  const { bytes } = await wire.read(expected.length, REPLY_DEADLINE_MS);
  const surplus = wire.unreadSize;
  wire.close();
  if (surplus === 0 && steady(bytes).equals(expected)) return null;
  return [
    "another session got wrong answers",
    `  expected ${printable(expected)}`,
    `  got      ${printable(bytes)}`,
  ];
}

function withoutCas(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  let at = 0;
  for (const { extras, key, value } of readPackets(copy).packets) {
    copy.fill(0, at + 16, at + 24);
    at += 24 + extras.length + key.length + value.length;
  }
  return copy;
}

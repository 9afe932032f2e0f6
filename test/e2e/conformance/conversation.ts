/**
 * One conversation of the conformance corpus, held with any server: what is sent, step by step,
 * and what came back in a form that two servers can be compared by. No expectation is written
 * down anywhere: the same conversation held with real memcached in the same run is the
 * expectation.
 *
 * After each step a sentinel command is sent whose reply nothing else looks like, so a reply is
 * complete without waiting for silence, and every step proves that the session is still usable.
 */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type PacketFields,
  packet,
  printable,
  printPacket,
  readPackets,
  type Split,
  toBytes,
  type Wire,
} from "../../harness/wire.ts";

/** How a step ends, when not with the sentinel's reply. */
type StepEnd =
  | "close" // The server is expected to close; no sentinel is sent.
  | "held"; // The command is not whole yet; go on with the next step.

export type Send = string | PacketFields | readonly PacketFields[];
export type Step =
  | string
  | { send: Send; waitMs?: number; end?: StepEnd; binary?: true }
  | PacketFields
  | readonly PacketFields[];
export type Row = readonly [name: string, ...steps: Step[]];

export type Conversation = {
  dialect: "text" | "meta" | "binary";
  name: string;
  /** Its own keys begin with this, on whichever server it is held. */
  tag: string;
  steps: readonly Step[];
  /** Touches more than its own keys (flush_all), so it is held when no other is. */
  alone: boolean;
};

export const dialectRows = (
  dialect: Conversation["dialect"],
  rows: readonly Row[],
  alone = false,
): Conversation[] =>
  rows.map(([name, ...steps], index) => {
    const tag = `${dialect.slice(0, 1)}${alone ? "a" : "s"}${String(index).padStart(3, "0")}`;
    return { dialect, name, tag, steps, alone };
  });

/** What came back, one printable text per step. */
export type Transcript = readonly string[];

export type Subject = {
  name: string;
  /** A connection that is ready for commands of this dialect: logged in where that is needed. */
  open(dialect: "text" | "binary"): Promise<Wire>;
};

const STEP_DEADLINE_MS = 6_000;
const TEXT_SHOWN_MAX = 600;
/** Below this many bytes, and without waiting, a conversation is also held byte by byte. */
const SPLIT_SIZE_MAX = 400;

export function isSplittable(conversation: Conversation): boolean {
  const waits = conversation.steps.some((step) => normal(step).waitMs !== undefined);
  return !waits && sentSize(conversation) <= SPLIT_SIZE_MAX;
}

export function sentSize({ steps }: Conversation): number {
  const keys = new Keys("x");
  const sizes = steps.map((step) => stepBytes(normal(step), keys, new CasNames()).length);
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Holds the conversation, sending each step whole or one byte at a time. */
export async function hold(
  subject: Subject,
  conversation: Conversation,
  split: Split,
): Promise<Transcript> {
  const binary = conversation.dialect === "binary";
  const wire = await subject.open(binary ? "binary" : "text");
  const keys = new Keys(`${conversation.tag}${split === "whole" ? "w" : "p"}.`);
  const cas = new CasNames(!hasSeveralKeys(conversation));
  const transcript: string[] = [];
  for (const [index, given] of conversation.steps.entries()) {
    const step = normal(given);
    if (step.waitMs !== undefined) await sleep(step.waitMs);
    await wire.send(stepBytes(step, keys, cas), split);
    if (step.end === "held") {
      await sleep(20);
      continue;
    }
    const { bytes, note } = await replyOf(wire, step.end, binary, index);
    transcript.push(printReply(bytes, binary, cas) + note);
  }
  wire.finish();
  const late = await wire.readToClose(2_000);
  if (late.bytes.length > 0) transcript.push(`<late>${printReply(late.bytes, binary, cas)}`);
  wire.close();
  return transcript;
}

async function replyOf(
  wire: Wire,
  end: StepEnd | undefined,
  binary: boolean,
  index: number,
): Promise<{ bytes: Buffer; note: string }> {
  if (end === "close") {
    const { bytes, ended } = await wire.readToClose(2_000);
    return { bytes, note: ended === "deadline" ? "<open>" : "<closed>" };
  }
  const sentinel = binary ? binarySentinel(index) : textSentinel(index);
  await wire.send(sentinel.command);
  const { bytes, ended } = await wire.readUntil(sentinel.reply, STEP_DEADLINE_MS);
  if (ended === "deadline") return { bytes, note: "<silence>" };
  if (ended !== "matched") return { bytes, note: "<closed>" };
  return { bytes: bytes.subarray(0, bytes.length - sentinel.reply.length), note: "" };
}

/** A delete of a key nobody has; its reply carries a number of this step only. */
function textSentinel(index: number): { command: Buffer; reply: Buffer } {
  const opaque = `sentinel${index}`;
  return {
    command: toBytes(`md no-such-key O${opaque}\r\n`),
    reply: toBytes(`NF O${opaque}\r\n`),
  };
}

function binarySentinel(index: number): { command: Buffer; reply: Buffer } {
  const opaque = 0x5e17_1e00 + index;
  const reply = packet({ opcode: "noop", magic: 0x81, opaque });
  return { command: packet({ opcode: "noop", opaque }), reply };
}

type NormalStep = { send: Send; waitMs?: number; end?: StepEnd };

const isStepObject = (step: Step): step is Extract<Step, { send: Send }> =>
  typeof step === "object" && "send" in step;

const normal = (step: Step): NormalStep => (isStepObject(step) ? step : { send: step });

function stepBytes({ send }: NormalStep, keys: Keys, cas: CasNames): Buffer {
  if (typeof send === "string") return toBytes(cas.fill(keys.fill(send)));
  const packets = "opcode" in send ? [send] : send;
  return Buffer.concat(packets.map((fields) => packet(keys.fillPacket(cas.fillPacket(fields)))));
}

/**
 * Names in sent text: `<a>` to `<z>` a key of this conversation, `<a:64>` the same in base64,
 * `<250>` a key of that many bytes, `<now+100>` a Unix time.
 */
class Keys {
  readonly #tag: string;

  constructor(tag: string) {
    this.#tag = tag;
  }

  fill(text: string): string {
    return text
      .replace(/<now([+-]\d+)>/g, (_, plus) => String(Math.floor(Date.now() / 1000) + Number(plus)))
      .replace(/<([a-z]):64>/g, (_, name) => Buffer.from(this.#tag + name).toString("base64"))
      .replace(/<(\d+)>/g, (_, size) => this.#tag.padEnd(Number(size), "k"))
      .replace(/<([a-z])>/g, (_, name) => this.#tag + name);
  }

  fillPacket(fields: PacketFields): PacketFields {
    return typeof fields.key === "string" ? { ...fields, key: this.fill(fields.key) } : fields;
  }
}

/**
 * Cas uniques differ between servers; here they are numbered in the order in which they are
 * first seen, and `<cas1>` in a text (or `cas: 1n` in a packet) sends the first of them. Uniques
 * of two keys may be equal when the keys are on different shards: with several keys no numbers.
 */
class CasNames {
  readonly #seen: bigint[] = [];
  readonly #isNumbered: boolean;

  constructor(isNumbered = true) {
    this.#isNumbered = isNumbered;
  }

  name(cas: bigint): string {
    if (cas === 0n) return "0";
    if (!this.#isNumbered) return "CAS";
    if (!this.#seen.includes(cas)) this.#seen.push(cas);
    return `CAS${this.#seen.indexOf(cas) + 1}`;
  }

  fill(text: string): string {
    return text.replace(/<cas(\d)([+-]\d)?>/g, (_, number, plus) =>
      String((this.#seen[Number(number) - 1] ?? 0n) + BigInt(plus ?? 0)),
    );
  }

  /** Small numbers stand for the uniques seen; others are sent as they are. */
  fillPacket(fields: PacketFields): PacketFields {
    if (fields.cas === undefined || fields.cas > 9n) return fields;
    return { ...fields, cas: this.#seen[Number(fields.cas) - 1] ?? 0n };
  }
}

function hasSeveralKeys({ steps }: Conversation): boolean {
  const shown = JSON.stringify(steps, (_, value) => (typeof value === "bigint" ? "" : value));
  return new Set(shown.match(/<[a-z]>\d*/g)).size > 1;
}

/** A printed reply: what two servers may differ in is replaced, everything else is kept. */
function printReply(bytes: Buffer, binary: boolean, cas: CasNames): string {
  return binary ? printBinary(bytes, cas) : shorten(normaliseText(bytes.toString("latin1"), cas));
}

function normaliseText(text: string, cas: CasNames): string {
  const normalised = text
    .replace(/^VERSION [^\r\n]+/gm, "VERSION <version>")
    .replace(/^(VALUE \S+ \d+ \d+) (\d+)\r$/gm, (_, head, unique) => {
      return `${head} ${cas.name(BigInt(unique))}\r`;
    })
    .replace(/^(?:HD|VA \d+|EX|NS|NF|EN) .*\r$/gm, (line) => normaliseFlags(line, cas))
    .replace(/^ME .*\r$/gm, (line) => normaliseDebug(line, cas));
  return printable(normalised)
    .replace(/\\r\\n/g, "\\r\\n\n")
    .trimEnd();
}

/** Times are rounded: a second may pass between two steps, and then does so anywhere. */
function normaliseFlags(line: string, cas: CasNames): string {
  return line
    .replace(/ c(\d+)/, (_, unique) => ` c${cas.name(BigInt(unique))}`)
    .replace(/ t(\d+)/, (_, seconds) => ` t${Math.ceil(Number(seconds) / 10) * 10}`)
    .replace(/ l(\d+)/, (_, seconds) => ` l${Math.floor(Number(seconds) / 10) * 10}`);
}

/** `me` shows memory: class and size belong to the engine that stores the item. */
function normaliseDebug(line: string, cas: CasNames): string {
  return line
    .replace(/cas=(\d+)/, (_, unique) => `cas=${cas.name(BigInt(unique))}`)
    .replace(/exp=(-\d{2,})/, (_, seconds) => `exp=${Math.floor(Number(seconds) / 10) * 10}`)
    .replace(/la=\d+/, "la=<seconds>")
    .replace(/cls=\d+ size=\d+/, "cls=<class> size=<size>");
}

function printBinary(bytes: Buffer, cas: CasNames): string {
  const { packets, rest } = readPackets(bytes);
  const lines = packets.map((one) => {
    const isVersion = one.opcode === 0x0b && one.status === 0;
    const shown = isVersion ? { ...one, value: Buffer.from("<version>") } : one;
    const unique = one.cas.toString(16).padStart(16, "0");
    return shorten(printPacket(shown).replace(`cas=${unique}`, `cas=${cas.name(one.cas)}`));
  });
  if (rest.length > 0) lines.push(`<rest>${shorten(printable(rest))}`);
  return lines.join("\n");
}

/** Large values are compared by their hash, so that a difference stays readable. */
function shorten(text: string): string {
  if (text.length <= TEXT_SHOWN_MAX) return text;
  const hash = createHash("sha256").update(text).digest("hex").slice(0, 16);
  const [start, end] = [text.slice(0, 200), text.slice(-200)];
  return `${start}<${text.length} characters, sha256 ${hash}>${end}`;
}

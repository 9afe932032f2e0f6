/** All commands of all dialects, with what they are answered: whatever stands before their keys. */
import { type PacketFields, packet, type Split, type Wire } from "../../harness/wire.ts";

export const base64 = (text: string): string => Buffer.from(text, "latin1").toString("base64");
export const uint32 = (...numbers: number[]): Buffer => {
  const bytes = Buffer.alloc(numbers.length * 4);
  numbers.forEach((number, index) => bytes.writeUInt32BE(number, index * 4));
  return bytes;
};
export const uint64 = (number: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(number);
  return bytes;
};

const LAST_TEXT = "mn\r\n";
const LAST_OPAQUE = 0xffff_0001;
export const LAST_PACKET = packet({ opcode: "noop", opaque: LAST_OPAQUE });
export const LAST_REPLY = packet({ opcode: "noop", opaque: LAST_OPAQUE, magic: 0x81 });

export async function say(wire: Wire, text: string, split: Split = "whole"): Promise<string> {
  await wire.send(text + LAST_TEXT, split);
  const { bytes } = await wire.readUntil("MN\r\n");
  return bytes.subarray(0, -"MN\r\n".length).toString("latin1");
}

export async function tell(
  wire: Wire,
  packets: PacketFields[],
  split: Split = "whole",
): Promise<Buffer> {
  const bytes = packets.map((fields, opaque) => packet({ opaque: opaque + 1, ...fields }));
  await wire.send(Buffer.concat([...bytes, LAST_PACKET]), split);
  const read = await wire.readUntil(LAST_REPLY);
  return read.bytes.subarray(0, -LAST_REPLY.length);
}

/** Each line of a conversation with what it is answered. */
export const TEXT: [sent: string, answer: string][] = [
  ["get a\r\n", "END\r\n"],
  ["set a 7 0 3\r\none\r\n", "STORED\r\n"],
  ["set a 7 0 3 noreply\r\nuno\r\n", ""],
  ["get a\r\n", "VALUE a 7 3\r\nuno\r\nEND\r\n"],
  ["add b 0 0 0\r\n\r\n", "STORED\r\n"],
  ["add b 0 0 1 noreply\r\nx\r\n", ""],
  ["get b a none b\r\n", "VALUE b 0 0\r\n\r\nVALUE a 7 3\r\nuno\r\nVALUE b 0 0\r\n\r\nEND\r\n"],
  ["  get   a  \r\n", "VALUE a 7 3\r\nuno\r\nEND\r\n"],
  ["gat 100 a\n", "VALUE a 7 3\r\nuno\r\nEND\r\n"],
  ["gat 0 a b c\r\n", "VALUE a 7 3\r\nuno\r\nVALUE b 0 0\r\n\r\nEND\r\n"],
  ["replace a 1 0 1\r\nx\r\n", "STORED\r\n"],
  ["append a 0 0 2\r\n>>\r\n", "STORED\r\n"],
  ["prepend a 0 0 2 noreply\r\n<<\r\n", ""],
  ["get a\r\n", "VALUE a 1 5\r\n<<x>>\r\nEND\r\n"],
  ["cas a 0 0 1 18446744073709551615\r\nx\r\n", "EXISTS\r\n"],
  ["set n 0 0 2\r\n41\r\n", "STORED\r\n"],
  ["incr n 1\r\n", "42\r\n"],
  ["decr n 2 noreply\r\n", ""],
  ["get n\r\n", "VALUE n 0 2\r\n40\r\nEND\r\n"],
  ["touch n 100\r\n", "TOUCHED\r\n"],
  ["touch n 0 noreply\r\n", ""],
  ["delete noreply\r\n", "NOT_FOUND\r\n"],
  ["delete n\r\n", "DELETED\r\n"],
  ["delete n 0 noreply\r\n", ""],
  ["incr n 1\r\n", "NOT_FOUND\r\n"],
  ["set a 0 0 1x\r\n", "CLIENT_ERROR bad command line format\r\n"],
  ["set long 0 0 3\r\nabcd\r\n", "CLIENT_ERROR bad data chunk\r\nERROR\r\n"],
  ["get VALUE\r\n", "END\r\n"],
];

export const META: [sent: string, answer: string][] = [
  ["mg a k O1\r\n", "EN ka O1\r\n"],
  ["ms a 3 k O1\r\none\r\n", "HD ka O1\r\n"],
  ["ms a 3 q k\r\nuno\r\n", ""],
  ["mg a v k s f O33\r\n", "VA 3 ka s3 f0 O33\r\nuno\r\n"],
  ["mg a O33 k q\r\n", "HD O33 ka\r\n"],
  ["mg none q k\r\n", ""],
  ["mg a s\r\n", "HD s3\r\n"],
  ["mg made N30 v k\r\n", "VA 0 kmade W\r\n\r\n"],
  ["ms n 1 k\r\n1\r\n", "HD kn\r\n"],
  ["ma n v k D4\r\n", "VA 1 kn\r\n5\r\n"],
  ["ma n q\r\n", ""],
  ["ma none k O7\r\n", "NF knone O7\r\n"],
  ["md none k\r\n", "NF knone\r\n"],
  ["md n q k\r\n", ""],
  ["md n q k\r\n", "NF kn\r\n"],
  ["mg error k !\r\n", "CLIENT_ERROR invalid flag\r\n"],
  // Base64: answered as the item was stored, in base64 or as it is.
  [`ms ${base64("b64")} 2 b k O9\r\nxy\r\n`, `HD k${base64("b64")} b O9\r\n`],
  [`mg ${base64("b64")} k v b\r\n`, `VA 2 k${base64("b64")} b\r\nxy\r\n`],
  ["mg b64 O1 k v\r\n", `VA 2 O1 k${base64("b64")} b\r\nxy\r\n`],
  [`mg ${base64("a")} b k\r\n`, "HD ka\r\n"],
  [`ms ${base64("\0 b\r")} 1 b k\r\nz\r\n`, `HD k${base64("\0 b\r")} b\r\n`],
  [`mg ${base64("\0 b\r")} k b v\r\n`, `VA 1 k${base64("\0 b\r")} b\r\nz\r\n`],
  [`ms ${base64("bb")} 1 b q\r\nz\r\n`, ""],
  [`mg ${base64("bb")} b q k s\r\n`, `HD k${base64("bb")} b s1\r\n`],
  [`md ${base64("bb")} b q\r\n`, ""],
  [`ma ${base64("made b")} b N0 J7 v k\r\n`, `VA 1 k${base64("made b")} b\r\n7\r\n`],
  [`mg ${base64("made b")} b v k O5\r\n`, "VA 1 kmade b O5\r\n7\r\n"],
  ["mg Zm9 b k\r\n", "CLIENT_ERROR error decoding key\r\n"],
  ["mg ! b k !\r\n", "CLIENT_ERROR invalid flag\r\n"],
  ["md ==== b\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n"],
  ["me ==== b\r\n", "CLIENT_ERROR bad command line format\r\n"],
  ["me none\r\n", "EN\r\n"],
];

export const PACKETS: PacketFields[] = [
  { opcode: "get", key: "a" },
  { opcode: "getk", key: "a" },
  { opcode: "getq", key: "a" },
  { opcode: "getkq", key: "a" },
  { opcode: "set", key: "a", extras: uint32(7, 0), value: "one" },
  { opcode: "setq", key: "a", extras: uint32(7, 0), value: "uno" },
  { opcode: "get", key: "a" },
  { opcode: "getk", key: "a" },
  { opcode: "getq", key: "a" },
  { opcode: "getkq", key: "a" },
  { opcode: "add", key: "a", extras: uint32(0, 0), value: "x" },
  { opcode: "addq", key: "\0 \r\n\xff", extras: uint32(0, 0), value: "odd" },
  { opcode: "getk", key: "\0 \r\n\xff" },
  { opcode: "replace", key: "none", extras: uint32(0, 0), value: "x" },
  { opcode: "replaceq", key: "none", extras: uint32(0, 0), value: "x" },
  { opcode: "append", key: "a", value: "!" },
  { opcode: "prependq", key: "a", value: "?" },
  { opcode: "gat", key: "a", extras: uint32(100) },
  { opcode: "gatk", key: "a", extras: uint32(0) },
  { opcode: "gatkq", key: "a", extras: uint32(0) },
  { opcode: "gatkq", key: "none", extras: uint32(0) },
  { opcode: "touch", key: "a", extras: uint32(0) },
  { opcode: "touch", key: "none", extras: uint32(0) },
  { opcode: "increment", key: "n", extras: Buffer.concat([uint64(1n), uint64(5n), uint32(0)]) },
  { opcode: "incrementq", key: "n", extras: Buffer.concat([uint64(1n), uint64(5n), uint32(0)]) },
  { opcode: "decrement", key: "n", extras: Buffer.concat([uint64(2n), uint64(5n), uint32(0)]) },
  { opcode: "increment", key: "a", extras: Buffer.concat([uint64(1n), uint64(5n), uint32(0)]) },
  { opcode: "delete", key: "a", cas: 0xffff_ffffn },
  { opcode: "delete", key: "n" },
  { opcode: "deleteq", key: "n" },
  { opcode: "get" },
  { opcode: 0x1f, key: "a" },
];

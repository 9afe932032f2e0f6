/** Replies as shards give them (protocol.txt, protocol_binary.h), for the fuzzer to damage. */
import { OPCODE, packet } from "../harness/wire.ts";
import type { Chance } from "./chance.ts";
import type { StreamDialect } from "./stream.ts";
import { anyValue } from "./text.ts";

const LINES = [
  ..."STORED|NOT_STORED|EXISTS|NOT_FOUND|DELETED|TOUCHED|OK|ERROR|END|17|RESET|MN".split("|"),
  ..."HD|HD kkey O1 c99|EN|NF|NS|NS kkey|EX|NF O7|ME key exp=-1 la=2 cas=3 fetch=no".split("|"),
  ...["CLIENT_ERROR bad data chunk", "SERVER_ERROR object too large for cache", "VERSION 1.6.18"],
];

export function replyBytes(dialect: StreamDialect, chance: Chance): Buffer {
  const count = chance.integer(1, 6);
  const make = dialect === "text" ? textReply : binaryReply;
  return Buffer.concat(chance.list(count, () => make(chance)));
}

function textReply(chance: Chance): Buffer {
  const end = chance.oneIn(12) ? "\n" : "\r\n";
  const value = anyValue(chance);
  const withValue = (head: string, tail = ""): Buffer =>
    Buffer.concat([Buffer.from(`${head}\r\n`, "latin1"), value, Buffer.from(`\r\n${tail}`)]);
  return chance.weighted<() => Buffer>([
    [6, () => Buffer.from(`${chance.pick(LINES)}${end}`)],
    [3, () => withValue(`VALUE key ${chance.pick([0, 4294967295])} ${value.length}`, "END\r\n")],
    [2, () => withValue(`VALUE key 0 ${value.length} 18446744073709551615`, "END\r\n")],
    [2, () => withValue(`VALUE key 0 ${value.length}`)],
    [3, () => withValue(`VA ${value.length} s${value.length} kkey c1`)],
    [1, () => Buffer.from("STAT pid 1\r\nSTAT version 1.6.18\r\nEND\r\n")],
    [1, () => Buffer.from(`${"x".repeat(chance.integer(1, 9_000))}${end}`)],
  ])();
}

const REPLYING = Object.values(OPCODE);

function binaryReply(chance: Chance): Buffer {
  const hasKey = chance.oneIn(3);
  const bytes = packet({
    magic: chance.oneIn(30) ? 0x80 : 0x81,
    opcode: chance.pick(REPLYING),
    extras: chance.bytes(chance.pick([0, 4])),
    key: hasKey ? "key" : "",
    value: anyValue(chance),
    opaque: chance.integer(0, 0xffff_ffff),
  });
  bytes.writeUInt16BE(chance.pick([0, 0, 0, 1, 2, 3, 4, 5, 6, 0x20, 0x81, 0x82]), 6);
  return bytes;
}

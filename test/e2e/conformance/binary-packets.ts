/** Packets of the binary conversations, each kind with an opaque of its own to be echoed. */
import type { OPCODE, PacketFields } from "../../harness/wire.ts";

export const KIB = 1024;
export const MIB = 1024 * KIB;
export type Name = keyof typeof OPCODE;
export type Extra = Partial<PacketFields>;

export const uint32 = (...numbers: number[]): Buffer => {
  const bytes = Buffer.alloc(numbers.length * 4);
  for (const [index, number] of numbers.entries()) bytes.writeUInt32BE(number, index * 4);
  return bytes;
};

export const store = (opcode: Name, value: string | Buffer, extra: Extra = {}): PacketFields => ({
  opcode,
  key: "<a>",
  value,
  extras: uint32(0xdeadbeef, 0),
  opaque: 0x11,
  ...extra,
});
export const set = (value: string | Buffer, extra: Extra = {}): PacketFields =>
  store("set", value, extra);
export const expiring = (exptime: number, value = "abc"): PacketFields =>
  store("set", value, { extras: uint32(7, exptime) });
export const key = (opcode: Name, extra: Extra = {}): PacketFields => ({
  opcode,
  key: "<a>",
  opaque: 0x22,
  ...extra,
});
export const bare = (opcode: Name | number, extra: Extra = {}): PacketFields => ({
  opcode,
  opaque: 0x33,
  ...extra,
});
export const append = (opcode: Name, value: string, extra: Extra = {}): PacketFields => ({
  opcode,
  key: "<a>",
  value,
  opaque: 0x44,
  ...extra,
});

export function arithmetic(
  opcode: Name,
  { delta = 1n, initial = 0n, exptime = 0 }: { delta?: bigint; initial?: bigint; exptime?: number },
  extra: Extra = {},
): PacketFields {
  const extras = Buffer.alloc(20);
  extras.writeBigUInt64BE(delta, 0);
  extras.writeBigUInt64BE(initial, 8);
  extras.writeUInt32BE(exptime, 16);
  return { opcode, key: "<a>", extras, opaque: 0x55, ...extra };
}

export const touch = (opcode: Name, exptime: number, extra: Extra = {}): PacketFields => ({
  opcode,
  key: "<a>",
  extras: uint32(exptime),
  opaque: 0x66,
  ...extra,
});

export const NO_CREATION = 0xffff_ffff;
export const LARGEST = 0xffff_ffff_ffff_ffffn;
export const STORED_A = set("abc");
export const GET_A = key("get");
export const waited = (send: PacketFields) => ({ send, waitMs: 3_200 });

/**
 * What follows from a change for the second copy of its key: whether it follows at all, and the meta
 * lines for that. Pure; trackedChange.ts sends them.
 */
import { Result } from "../../core/protocol/command.ts";

/** What the second copy gets when the first has taken the change. */
export type Effect =
  /** The value that was sent. `exptime` as sent; negative ones have expired. */
  | { kind: "store"; flags: number; exptime: number; value: Buffer }
  | { kind: "touch"; exptime: number }
  /** The same counting, checked by its result. `initial`: what a key begins with that is not there. */
  | { kind: "count"; isDown: boolean; delta: string; initial: Initial | null }
  /** Nothing: it is erased there. `always`: even if the first copy does not have the key. */
  | { kind: "erase"; always: boolean }
  /** It is erased there if the first copy asked the client to make the value anew (W). */
  | { kind: "recache" };
type Initial = { value: string; exptime: number };

const KEY_TOKEN_SIZE_MAX = 250;

/** What the answer of the first copy means for the second. */
export function verdictOf(
  effect: Exclude<Effect, { kind: "recache" }>,
  result: number,
): "follow" | "erase" | "leave" {
  switch (effect.kind) {
    case "store":
      if (result === Result.ok) return "follow";
      // Whatever went wrong, memcached may have dropped the old value.
      return isRefusal(result) ? "leave" : "erase";
    case "touch":
      return result === Result.ok || result === Result.hit ? "follow" : leaveUnlessBroken(result);
    case "count":
      return result === Result.ok || result === Result.hit ? "follow" : leaveUnlessBroken(result);
    case "erase":
      if (effect.always)
        return result === Result.exists || result === Result.clientError ? "leave" : "erase";
      return result === Result.ok || result === Result.hit ? "erase" : leaveUnlessBroken(result);
  }
}

const leaveUnlessBroken = (result: number): "leave" | "erase" =>
  result === Result.serverError ? "erase" : "leave";

const isRefusal = (result: number): boolean =>
  result === Result.notStored || result === Result.exists || result === Result.notFound;

export function storeLine(
  key: string,
  token: string,
  { flags, exptime, value }: { flags: number; exptime: number; value: Buffer },
): Buffer {
  const head = `ms ${noFlags(key)} ${value.length} C${token} F${flags} T${exptime}${flagOf(key)}\r\n`;
  return Buffer.concat([Buffer.from(head, "latin1"), value, LINE_END]);
}

const LINE_END = Buffer.from("\r\n");
const BASE64 = " b";

/** A key as it stands on a meta line, with the flag for base64 if it needs that. */
export const noFlags = (keyToken: string): string =>
  keyToken.endsWith(BASE64) ? keyToken.slice(0, -BASE64.length) : keyToken;
export const flagOf = (keyToken: string): string => (keyToken.endsWith(BASE64) ? BASE64 : "");

/**
 * The key on a meta line; what a text line cannot carry is base64. Null where that is longer than
 * memcached takes: such keys, of the binary dialect, have one copy only.
 */
export function keyTokenOf(key: Buffer): string | null {
  const isPlain = key.every((byte) => byte > 0x20 && byte !== 0x7f);
  if (isPlain) return key.toString("latin1");
  const token = key.toString("base64");
  return token.length > KEY_TOKEN_SIZE_MAX ? null : token + BASE64;
}

/** The cas on the first line of a meta reply; "" if there is none. */
export function tokenOf(bytes: Buffer, from: number, size: number): string {
  const line = bytes.toString("latin1", from, Math.min(from + size, from + 600));
  return /^[A-Z]{2}(?: \S+)*? c(\d+)/.exec(line)?.[1] ?? "";
}

export const lastLine = (text: string): string => text.trimEnd().split("\r\n").at(-1)!.trim();

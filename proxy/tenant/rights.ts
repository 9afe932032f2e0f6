/** Rights as bits, and which of them each command needs: the only place that says who may what. */
import { type Credential, RIGHTS, type Right } from "../../core/cluster/records.ts";
import { type Access, COMMANDS } from "../../core/protocol/command.ts";
import type { Problem } from "../../core/protocol/problem.ts";

const BIT_OF = Object.fromEntries(RIGHTS.map((right, index) => [right, 1 << index])) as Record<
  Right,
  number
>;

export const ALL_RIGHTS: number = rightsMask(RIGHTS);
/** Set beside the rights of a credential with a key prefix, so that a refusal can say why. */
const NAMESPACED = 1 << RIGHTS.length;

export function rightsMask(rights: readonly Right[]): number {
  return rights.reduce((mask, right) => mask | BIT_OF[right], 0);
}

/** Whoever sees a part of the keys may not empty the whole cache, whatever its rights are. */
export function credentialRights({ rights, keyPrefix }: Credential): number {
  const mask = rightsMask(rights);
  return keyPrefix === "" ? mask : (mask & ~BIT_OF.flush) | NAMESPACED;
}

const REFUSAL: Record<Access, Problem> = {
  write: "readOnly",
  read: "noRead",
  flush: "noFlush",
};

/** Bits a command needs, by its number. */
const neededBits: Uint8Array = Uint8Array.from(COMMANDS, ({ access }) => rightsMask(access));

export function mayRun(rights: number, command: number): boolean {
  return (neededBits[command]! & ~rights) === 0;
}

/** What to answer when `mayRun` says no: the first right that is missing. */
export function refusalOf(rights: number, command: number): Problem {
  const missing = COMMANDS[command]!.access.find((access) => (BIT_OF[access] & rights) === 0);
  if (missing === "flush" && (rights & NAMESPACED) !== 0) return "noFlushOfPrefix";
  return missing === undefined ? "none" : REFUSAL[missing];
}

/** `stats reset` is a flush of figures: everybody reads the same ones. */
export function mayResetStats(rights: number): boolean {
  return (rights & BIT_OF.flush) !== 0;
}

/** Rights as bits, and which of them each command needs: the only place that says who may what. */
import { RIGHTS, type Right } from "../../core/cluster/records.ts";
import { type Access, COMMANDS } from "../../core/protocol/command.ts";
import type { Problem } from "../../core/protocol/problem.ts";

const BIT_OF = Object.fromEntries(RIGHTS.map((right, index) => [right, 1 << index])) as Record<
  Right,
  number
>;

export const ALL_RIGHTS: number = rightsMask(RIGHTS);

export function rightsMask(rights: readonly Right[]): number {
  return rights.reduce((mask, right) => mask | BIT_OF[right], 0);
}

const NEEDED: Record<Access, number> = {
  none: 0,
  read: BIT_OF.read,
  write: BIT_OF.write,
  flush: BIT_OF.flush,
};
const REFUSAL: Record<Access, Problem> = {
  none: "none",
  read: "noRead",
  write: "readOnly",
  flush: "noFlush",
};

/** Bits a command needs, by its number. */
const neededBits: Uint8Array = Uint8Array.from(COMMANDS, (command) => NEEDED[command.access]);

export function mayRun(rights: number, command: number): boolean {
  return (neededBits[command]! & ~rights) === 0;
}

/** What to answer when `mayRun` says no. */
export function refusalOf(command: number): Problem {
  return REFUSAL[COMMANDS[command]!.access];
}

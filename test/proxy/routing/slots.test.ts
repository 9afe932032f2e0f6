/** Slots: each is one command at a time, and is freed once. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Command } from "../../../core/protocol/command.ts";
import { Quiet, SLOT_COUNT_MAX, SlotState, Slots } from "../../../proxy/routing/slots.ts";
import { CheckedSlots } from "../rig.ts";

describe("slots", () => {
  test("are all given once, up to the last", () => {
    const slots = new Slots();
    const given = new Set<number>();
    while (slots.hasRoom(1)) given.add(slots.open(null, Command.get, 1));
    expect(given.size).toBe(SLOT_COUNT_MAX);
    expect(Math.min(...given)).toBe(0);
    expect(Math.max(...given)).toBe(SLOT_COUNT_MAX - 1);
    expect(slots.usedCount).toBe(SLOT_COUNT_MAX);
    expect(slots.hasRoom(0)).toBe(true);
    for (const slot of given) slots.free(slot);
    expect(slots.usedCount).toBe(0);
    expect(slots.hasRoom(SLOT_COUNT_MAX)).toBe(true);
    expect(slots.hasRoom(SLOT_COUNT_MAX + 1)).toBe(false);
  });

  test("begin anew, whatever stood in them before", () => {
    const slots = new Slots();
    const slot = slots.open(null, Command.set, 5);
    slots.quiet[slot] = Quiet.binary;
    slots.keyCount[slot] = 60;
    slots.heldSize[slot] = 100;
    slots.held[slot] = Buffer.alloc(1);
    slots.next[slot] = 3;
    slots.state[slot] = SlotState.settled;
    slots.free(slot);
    expect(slots.held[slot]).toBeNull();
    expect(slots.open(null, Command.get, 7)).toBe(slot);
    const { command, quiet, keyCount, heldSize, held, next, state, startedAtMs } = slots;
    expect([command[slot], quiet[slot], keyCount[slot]]).toEqual([Command.get, Quiet.no, 1]);
    expect([heldSize[slot], held[slot], next[slot]]).toEqual([0, null, -1]);
    expect([state[slot], startedAtMs[slot]]).toEqual([SlotState.waiting, 7]);
    expect([slots.queue[slot], slots.gather[slot]]).toEqual([null, null]);
  });

  test("are never in use twice at a time", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat()), { maxLength: 300 }), (steps) => {
        const slots = new CheckedSlots();
        const used: number[] = [];
        for (const [opens, which] of steps) {
          if (opens || used.length === 0) {
            const slot = slots.open(null, Command.get, 0);
            expect(used).not.toContain(slot);
            used.push(slot);
          } else {
            const [slot] = used.splice(which % used.length, 1);
            slots.free(slot ?? -1);
          }
          expect(slots.usedCount).toBe(used.length);
        }
      }),
    );
  });
});

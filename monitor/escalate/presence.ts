/**
 * Devices of people as presence shows them. That none is there is good evidence; that one is there
 * means little, which is what receipts and pings are for.
 */
import { DEVICE_COUNT_MAX } from "../../core/cluster/incidents.ts";
import type { Turn } from "../incident/turn.ts";
import type { DeviceSeen } from "../incident/types.ts";
import { personOf } from "./targets.ts";

/** Presences come after the link is up; until then nothing is known of anybody. */
const GRACE_MS = 2_000;

export function isPresenceKnown({ memory, nowMs }: Turn): boolean {
  return memory.link.isUp && nowMs >= memory.link.sinceMs + GRACE_MS;
}

export function devicesOf(turn: Turn, person: string): [jid: string, seen: DeviceSeen][] {
  return Object.entries(turn.memory.devices[person] ?? {});
}

/** Whether the server would give a message to the person to some device now. */
export function hasDevice(turn: Turn, person: string): boolean {
  return devicesOf(turn, person).some(([, { priority }]) => priority >= 0);
}

/** A device came, changed or went (`priority` null). Those of strangers are nothing to us. */
export function sawPresence(
  turn: Turn,
  { from, priority, show }: { from: string; priority: number | null; show: string },
): string | undefined {
  const person = personOf(turn, from);
  if (person === undefined || !from.includes("/")) return undefined;
  const { [from]: known, ...others } = turn.memory.devices[person] ?? {};
  const isFull = Object.keys(others).length >= DEVICE_COUNT_MAX;
  const seen = { roundTripMs: null, misses: 0, ...known, priority: priority ?? 0, show };
  const devices = priority === null || isFull ? others : { ...others, [from]: seen };
  turn.memory.devices = { ...turn.memory.devices, [person]: devices };
  return person;
}

/** What is new about one device. */
export function updateDevice(turn: Turn, person: string, jid: string, over: Partial<DeviceSeen>) {
  const known = turn.memory.devices[person]?.[jid];
  if (known === undefined) return;
  const devices = { ...turn.memory.devices[person], [jid]: { ...known, ...over } };
  turn.memory.devices = { ...turn.memory.devices, [person]: devices };
}

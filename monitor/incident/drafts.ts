/**
 * Documents of one kind while a step changes them: what was there before stays as it was, what is
 * edited is a copy. At the end it tells what changed.
 */
import type { Incident } from "../../core/cluster/incidents.ts";
import type { Documents } from "./types.ts";

export class Drafts<T extends object> {
  readonly #before: Documents<T>;
  /** Null: deleted. */
  readonly #changed = new Map<string, T | null>();
  readonly #forgotten = new Set<string>();

  readonly #copy: (value: T) => T;

  constructor(before: Documents<T>, copy: (value: T) => T = structuredClone) {
    this.#before = before;
    this.#copy = copy;
  }

  get(id: string): T | undefined {
    const changed = this.#changed.get(id);
    if (changed !== undefined) return changed ?? undefined;
    return Object.hasOwn(this.#before, id) ? this.#before[id] : undefined;
  }

  /** A copy to write to; the same one each time. */
  edit(id: string): T {
    const changed = this.#changed.get(id);
    if (changed !== undefined && changed !== null) return changed;
    const draft = this.#copy(this.get(id) as T);
    this.#changed.set(id, draft);
    return draft;
  }

  put(id: string, value: T): T {
    this.#changed.set(id, value);
    return value;
  }

  delete(id: string): void {
    this.#changed.set(id, null);
  }

  /** It leaves memory; its record stays. */
  forget(id: string): void {
    this.#forgotten.add(id);
  }

  ids(): string[] {
    const added = [...this.#changed.keys()].filter((id) => !Object.hasOwn(this.#before, id));
    return [...Object.keys(this.#before), ...added].filter((id) => this.get(id) !== undefined);
  }

  values(): T[] {
    return this.ids().map((id) => this.get(id) as T);
  }

  changes(): [id: string, value: T | null][] {
    return [...this.#changed];
  }

  after(): Documents<T> {
    if (this.#changed.size === 0 && this.#forgotten.size === 0) return this.#before;
    const kept = this.ids().filter((id) => !this.#forgotten.has(id));
    return Object.fromEntries(kept.map((id) => [id, this.get(id) as T]));
  }
}

/**
 * A copy of an incident whose parts can be written to. What is never changed once it is there (lines
 * of the log, answers, the policy) is shared: this is an order of magnitude faster than a deep copy.
 */
export function copyIncident(incident: Incident): Incident {
  const { ack, deadlines, notifications, log, handled, details } = incident;
  return {
    ...incident,
    details: [...details],
    ack: ack === null ? null : { ...ack },
    deadlines: { ...deadlines },
    notifications: notifications.map((one) => ({
      ...one,
      devices: one.devices.map((device) => ({ ...device })),
    })),
    log: [...log],
    handled: [...handled],
  };
}

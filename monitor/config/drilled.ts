/**
 * Whether the people of a configuration are known to be reachable: their drills are in the cluster
 * state. Who never had one is a warning, as somebody new cannot have; who had some and passed none
 * is a problem, for incidents would go past them.
 */
import type { Drill } from "../../core/cluster/incidents.ts";
import type { ClusterState } from "../../core/cluster/state.ts";
import type { Problem } from "../../core/runtime/config.ts";
import { neverDrilled } from "./check.ts";

export interface Drilled {
  readonly warnings: readonly Problem[];
  readonly problems: readonly Problem[];
}

/** Rejects with StateUnavailable when the state does not answer. */
export async function lookAtDrills(
  state: Pick<ClusterState, "list">,
  people: readonly string[],
): Promise<Drilled> {
  const drills = (await state.list("drill")).entries.map(({ value }) => value);
  return drilledOf(people, drills);
}

export function drilledOf(people: readonly string[], drills: readonly Drill[]): Drilled {
  // One that is under way proves nothing either way.
  const ended = drills.filter(({ purpose, state }) => purpose === "drill" && state !== "waiting");
  const tried = new Set(ended.map(({ person }) => person));
  const failed = people.filter((person) => tried.has(person));
  const fresh = people.filter((person) => !tried.has(person));
  return {
    warnings: neverDrilled(fresh, ended),
    problems: neverDrilled(failed, ended).map(({ where, message }) => {
      return { where, message: message.replace("never passed a drill", "failed every drill") };
    }),
  };
}

/**
 * Silences: by command, with an end, and announced ones of the configuration. A silence is a flag
 * of the incidents that it covers, and covers none that is worse than what it was made for.
 */
import {
  type Incident,
  incidentId,
  SEVERITIES,
  type Silence,
  shownId,
} from "../../core/cluster/incidents.ts";
import { timeText } from "../escalate/texts.ts";
import { fits, matches } from "./policies.ts";
import type { Turn } from "./turn.ts";

export const SILENCE_COUNT_MAX = 200;

/** Ends what is over, and flags what is covered. */
export function settleSilences(turn: Turn): void {
  for (const id of turn.silences.ids()) {
    if ((turn.silences.get(id)?.untilMs ?? 0) <= turn.nowMs) turn.silences.delete(id);
  }
  for (const incident of turn.incidents.values()) {
    if (incident.state === "resolved") continue;
    const silence = silenceOf(turn, incident);
    if (silence?.id === incident.silence?.id && silence?.untilMs === incident.silence?.untilMs) {
      continue;
    }
    const draft = turn.incidents.edit(incidentId(incident));
    draft.silence = silence;
    const text =
      silence === null
        ? "no silence covers it any more"
        : `by ${silence.by} until ${timeText(turn, silence.untilMs)}`;
    turn.note(draft, "silenced", text);
  }
}

/** The one that lasts longest. */
function silenceOf(turn: Turn, incident: Incident): Incident["silence"] {
  const { nowMs } = turn;
  const asked = turn.silences.ids().flatMap((id) => {
    const silence = turn.silences.get(id);
    if (silence === undefined || !covers(silence, incident)) return [];
    return [{ id, by: silence.by, untilMs: silence.untilMs }];
  });
  const planned = turn.paging.silences.flatMap(({ match, fromMs, toMs, reason }, index) => {
    if (nowMs < fromMs || nowMs >= toMs || !matches(match, incident)) return [];
    return [
      { id: `planned/${index}`, by: reason.slice(0, 100) || "the configuration", untilMs: toMs },
    ];
  });
  const all = [...asked, ...planned].sort((a, b) => b.untilMs - a.untilMs);
  return all[0] ?? null;
}

export function covers({ key, severity }: Silence, incident: Incident): boolean {
  const isWorse = SEVERITIES.indexOf(incident.severity) > SEVERITIES.indexOf(severity);
  return !isWorse && fits(key, incident.key);
}

/** Id of a silence that is made in this step. */
export function silenceId(turn: Turn, incident: Incident | undefined): string {
  const base = `${turn.nowMs}-${incident === undefined ? "key" : shownId(incident)}`;
  return turn.silences.get(base) === undefined ? base : `${base}-${turn.silences.ids().length}`;
}

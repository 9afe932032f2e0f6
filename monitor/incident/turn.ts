/**
 * One step of the pager while it is under way: documents to edit, effects and changes to hand out.
 * Everything that decides gets a turn and writes to nothing else.
 */
import {
  type Drill,
  type Incident,
  LOG_COUNT_MAX,
  type Person,
  type Silence,
  SUMMARY_LENGTH_MAX,
  shownId,
} from "../../core/cluster/incidents.ts";
import type { PagingConfig } from "../config/paging.ts";
import { copyIncident, Drafts } from "./drafts.ts";
import type { Effect, Measure, Memory, PagerChange, PagerState } from "./types.ts";

/** So many lines of a log's beginning are kept when it is full. */
const LOG_HEAD_COUNT = 30;

type Writable<T> = { -readonly [K in keyof T]: T[K] };

export class Turn {
  readonly nowMs: number;
  readonly paging: PagingConfig;
  /** Replace its parts, never write into them. */
  readonly memory: Writable<Memory>;
  readonly incidents: Drafts<Incident>;
  readonly silences: Drafts<Silence>;
  readonly drills: Drafts<Drill>;
  readonly people: Drafts<Person>;
  readonly effects: Effect[] = [];
  /** Orders that were obeyed. */
  readonly done: string[] = [];

  constructor(state: PagerState, nowMs: number, paging: PagingConfig) {
    this.nowMs = nowMs;
    this.paging = paging;
    this.memory = { ...state.memory };
    this.incidents = new Drafts(state.incidents, copyIncident);
    this.silences = new Drafts(state.silences);
    this.drills = new Drafts(state.drills);
    this.people = new Drafts(state.people);
  }

  /** Writes a line into the log of an incident that is being edited. */
  note(incident: Incident, event: string, text: string, person = ""): void {
    const line = { atMs: this.nowMs, event, person, text: cut(text, SUMMARY_LENGTH_MAX) };
    if (incident.log.length >= LOG_COUNT_MAX) {
      incident.log.splice(LOG_HEAD_COUNT, 1);
      incident.logDropped += 1;
    }
    incident.log.push(line);
    this.effects.push({ kind: "noted", incident: shownId(incident), event, person, text });
  }

  measure(measure: Measure): void {
    this.effects.push({ kind: "measured", measure });
  }

  changes(): PagerChange[] {
    const of = <K extends "incident" | "silence" | "drill" | "person">(
      kind: K,
      drafts: { changes(): [string, unknown][] },
    ) => drafts.changes().map(([id, value]) => ({ kind, id, value }) as PagerChange);
    return [
      ...of("incident", this.incidents),
      ...of("silence", this.silences),
      ...of("drill", this.drills),
      ...of("person", this.people),
      ...this.done.map((id): PagerChange => ({ kind: "order", id, value: null })),
    ];
  }

  after(): PagerState {
    return {
      incidents: this.incidents.after(),
      silences: this.silences.after(),
      drills: this.drills.after(),
      people: this.people.after(),
      memory: this.memory,
    };
  }
}

/** At most `lengthMax` characters, and no half of a pair at the end. */
export function cut(text: string, lengthMax: number): string {
  return text.length <= lengthMax ? text : `${text.slice(0, lengthMax - 1).toWellFormed()}…`;
}

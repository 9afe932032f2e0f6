/**
 * The pager: from what is wrong, what people answer and what time it is, to who is told what. One
 * pure reducer; it reads no clock and touches nothing. Whoever drives it writes `changes` before
 * it carries out `effects`, in their order, and calls again at `nextDeadlineMs`. All that must
 * survive a restart is in the documents; the rest (presence, the link) is learnt anew.
 */
import type { PagingConfig } from "../config/paging.ts";
import type { Effect, PagerChange, PagerDocuments, PagerEvent, PagerState } from "./types.ts";

export interface Step {
  readonly state: PagerState;
  /** Records to write before the effects; all fit one commit, or several in this order. */
  readonly changes: readonly PagerChange[];
  readonly effects: readonly Effect[];
}

/** What follows from `event` at `nowMs` (milliseconds since 1970). */
export function step(
  state: PagerState,
  event: PagerEvent,
  nowMs: number,
  paging: PagingConfig,
): Step {
  void event;
  void nowMs;
  void paging;
  return { state, changes: [], effects: [] };
}

/** A pager that knows these documents. Its first event has to be `tookOver`. */
export function pagerOf(documents: PagerDocuments): PagerState {
  return { ...documents, volatile: null };
}

/** When `tick` is due at the latest; null while nothing happens by itself. */
export function nextDeadlineMs(state: PagerState): number | null {
  void state;
  return null;
}

/**
 * What an operation answers: its value with the revision at which it became true, or why it did
 * not happen. Expected failures are values; only bugs are thrown.
 */
import type { z } from "zod";
import { StateUnavailable } from "../../core/cluster/state.ts";
import { messageOf } from "../../core/runtime/config.ts";

/** One thing wrong with the input; `path` like `limits.sessionsMax`, "" for the input as a whole. */
export interface InputProblem {
  readonly path: string;
  readonly message: string;
}

export type Problem =
  | { readonly kind: "notFound"; readonly message: string }
  /** `revision` is that of the record as it is now, 0 if there is none. */
  | { readonly kind: "conflict"; readonly message: string; readonly revision: number }
  | { readonly kind: "invalid"; readonly problems: readonly InputProblem[] }
  | { readonly kind: "forbidden"; readonly message: string }
  /** The cluster state is away. Nothing was changed, as far as is known. */
  | { readonly kind: "unavailable"; readonly message: string };

export type Refused = { readonly ok: false; readonly problem: Problem };
export type Outcome<T> =
  | { readonly ok: true; readonly value: T; readonly revision: number }
  | Refused;

export const done = <T>(value: T, revision: number): Outcome<T> => ({ ok: true, value, revision });

export const notFound = (message: string): Refused => refused({ kind: "notFound", message });

export const forbidden = (message: string): Refused => refused({ kind: "forbidden", message });

export const conflict = (message: string, revision: number): Refused =>
  refused({ kind: "conflict", message, revision });

export const invalid = (...problems: InputProblem[]): Refused =>
  refused({ kind: "invalid", problems });

function refused(problem: Problem): Refused {
  return { ok: false, problem };
}

/** Runs work on the cluster state; a state that is away becomes a value too. */
export async function whenReachable<T>(work: () => Promise<Outcome<T>>): Promise<Outcome<T>> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof StateUnavailable)) throw error;
    const message = `nothing can be changed now: ${error.message}`;
    return refused({ kind: "unavailable", message });
  }
}

/** Every problem that zod found, by path; unknown fields by their names. */
export function inputProblems(error: z.core.$ZodError): InputProblem[] {
  return error.issues.flatMap((issue): InputProblem[] => {
    const path = (...more: PropertyKey[]) => [...issue.path, ...more].map(String).join(".");
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => ({ path: path(key), message: "unknown field" }));
    }
    return [{ path: path(), message: messageOf(issue) }];
  });
}

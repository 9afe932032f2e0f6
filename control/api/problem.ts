/** What did not happen, as HTTP tells it: problem+json (RFC 9457), every problem of the input by path. */
import { STATUS_CODES } from "node:http";
import { z } from "zod";
import type { InputProblem, Problem } from "../operations/outcome.ts";

export const PROBLEM_TYPE = "application/problem+json";

export const problemAnswer = z.strictObject({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string().describe("A sentence for people"),
  problems: z
    .array(z.strictObject({ path: z.string(), message: z.string() }))
    .optional()
    .describe("Everything that is wrong with the input"),
  revision: z.int().optional().describe("What the record has now, after a conflict"),
});
export type ProblemAnswer = z.output<typeof problemAnswer>;

const STATUS_OF = {
  notFound: 404,
  conflict: 409,
  invalid: 400,
  forbidden: 403,
  unavailable: 503,
} as const satisfies Record<Problem["kind"], number>;

/** `isConditional`: the caller named a revision, so that a conflict is a failed precondition. */
export function problemOf(problem: Problem, isConditional = false): ProblemAnswer {
  const status = problem.kind === "conflict" && isConditional ? 412 : STATUS_OF[problem.kind];
  if (problem.kind === "invalid") return invalidInput(problem.problems);
  const revision = problem.kind === "conflict" ? { revision: problem.revision } : {};
  return { ...plain(status, problem.message), ...revision };
}

export function invalidInput(problems: readonly InputProblem[]): ProblemAnswer {
  const sentences = problems.map(({ path, message }) => (path ? `${path}: ${message}` : message));
  return { ...plain(400, sentences.join("; ")), problems: [...problems] };
}

export function plain(status: number, detail: string): ProblemAnswer {
  return { type: "about:blank", title: STATUS_CODES[status] ?? "Problem", status, detail };
}

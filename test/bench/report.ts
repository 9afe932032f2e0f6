/**
 * From samples to figures, and from figures to a table and a file. A figure that misses its bar,
 * or that must not be believed, is shown like any other.
 */
import { type Counts, problemsOf } from "./generator.ts";
import type { Machine } from "./machine.ts";
import type { Measure, Scenario } from "./scenarios.ts";
import { ratiosOf, type Spread, spreadOf, type Verdict, verdictOf } from "./statistics.ts";

/** What one server did in one round; a load that could not run says why. */
export type Sample = { ok: true; counts: Counts } | { ok: false; problem: string };
export type Round = { subject: Sample; peer: Sample | undefined };

export type Figure = {
  unit: string;
  subject: Spread;
  peer: Spread | null;
  ratio: Spread | null;
  bound: Measure["compare"];
  atMost: number | null;
  verdict: Verdict;
};
export type Result = {
  name: string;
  title: string;
  figures: Figure[];
  problems: string[];
  rounds: Round[];
};

export function resultOf(scenario: Scenario, rounds: readonly Round[]): Result {
  const problems = rounds.flatMap((round, index) => [
    ...complaints(round.subject, `round ${index + 1}`),
    ...complaints(round.peer, `round ${index + 1}, peer`),
  ]);
  const figures = scenario.measures.map((measure) => {
    const figure = figureOf(measure, rounds);
    return problems.length === 0 ? figure : { ...figure, verdict: "invalid" as const };
  });
  const { name, title } = scenario;
  return { name, title, figures, problems, rounds: [...rounds] };
}

function complaints(sample: Sample | undefined, where: string): string[] {
  if (sample === undefined) return [];
  const problems = sample.ok ? problemsOf(sample.counts) : [sample.problem];
  return problems.map((problem) => `${where}: ${problem}`);
}

function figureOf(measure: Measure, rounds: readonly Round[]): Figure {
  const measured = (sample: Sample | undefined): number =>
    sample?.ok ? sample.counts[measure.metric] * measure.scale : Number.NaN;
  const subject = rounds.map((round) => measured(round.subject));
  const peer = rounds.map((round) => measured(round.peer));
  const isPaired = rounds.some((round) => round.peer !== undefined);
  const ratio = isPaired && measure.compare === "ratio" ? spreadOf(ratiosOf(subject, peer)) : null;
  const judged = measure.compare === "ratio" ? ratio : spreadOf(subject);
  return {
    unit: measure.unit,
    subject: spreadOf(subject),
    peer: isPaired ? spreadOf(peer) : null,
    ratio,
    bound: measure.compare,
    atMost: measure.atMost ?? null,
    verdict: verdictOf(judged?.median ?? Number.NaN, measure.atMost),
  };
}

const COLUMNS = ["load", "", "measure", "subject", "peer", "ratio [min-max]", "at most", ""];

/** A Markdown table, so that it can be pasted where people read it. */
export function tableOf(results: readonly Result[]): string {
  const rows = results.flatMap((result) => result.figures.map((figure) => rowOf(result, figure)));
  const table = [COLUMNS, COLUMNS.map(() => ""), ...rows];
  const widths = COLUMNS.map((_, column) =>
    Math.max(...table.map((row) => row[column]?.length ?? 0)),
  );
  const lines = table.map((row, index) => {
    const cells = row.map((cell, column) =>
      cell.padEnd(widths[column] ?? 0, index === 1 ? "-" : " "),
    );
    return `| ${cells.join(" | ")} |`;
  });
  const problems = results.flatMap((result) =>
    result.problems.map((problem) => `! ${result.name}, ${problem}`),
  );
  return [...lines, ...problems].join("\n");
}

function rowOf({ name, title }: Result, figure: Figure): string[] {
  const { ratio, atMost } = figure;
  const bar = figure.bound === "ratio" ? `${numberText(atMost)} x` : numberText(atMost);
  return [
    name,
    title,
    figure.unit,
    numberText(figure.subject.median),
    numberText(figure.peer?.median),
    ratio === null
      ? ""
      : `${ratioText(ratio.median)} [${ratioText(ratio.min)}-${ratioText(ratio.max)}]`,
    atMost === null ? "" : bar,
    figure.verdict,
  ];
}

export function machineText(machine: Machine): string {
  return Object.entries(machine)
    .map(([name, value]) => `${name}: ${value}`)
    .join("\n");
}

const ratioText = (ratio: number): string => (Number.isNaN(ratio) ? "?" : ratio.toFixed(2));

function numberText(value: number | null | undefined): string {
  if (value === null || value === undefined) return "";
  if (Number.isNaN(value)) return "?";
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

/**
 * `npm run fault -- [--minutes 1] [--seed N] [--subject NAME] [--only PART,…]`: real
 * memcached shards and real proxies in processes of their own, faults one after another, and a
 * history of every operation that is checked for stale reads. Prints the seed; the same seed makes
 * the same choices. `--json FILE` keeps the report, `--evidence FILE` what proxies logged. Ends
 * with 1 when a stale value was read. `--faults` lists the faults.
 *
 * `npm run fault -- --table [--rounds 5] [--rate 200] [--only NAME,…] [--json FILE]`: what a failing
 * shard costs, in figures (table.ts).
 */
import { appendFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { z } from "zod";
import { describeMachine } from "../bench/machine.ts";
import { runCampaign } from "./campaign.ts";
import { FAULT_NAMES } from "./nemesis.ts";
import { SUBJECT_NAMES } from "./subjects.ts";
import { runTable, SCENARIO_NAMES, tableOf } from "./table.ts";

const HOLD_MS = 5_000;
const CALM_MS = 4_000;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    subject: { type: "string", default: "memward" },
    only: { type: "string", default: "" },
    json: { type: "string" },
    evidence: { type: "string" },
    faults: { type: "boolean", default: false },
    table: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
    rate: { type: "string", default: "200" },
  },
});
const options = z
  .strictObject({
    minutes: z.coerce.number().positive(),
    seed: z.coerce.number().int(),
    subject: z.enum(SUBJECT_NAMES),
    only: z.string().transform((text) => text.split(",").filter((part) => part !== "")),
    json: z.string().optional(),
    evidence: z.string().optional(),
    faults: z.boolean(),
    table: z.boolean(),
    rounds: z.coerce.number().int().positive(),
    rate: z.coerce.number().positive(),
  })
  .parse(values);

let isStopping = false;
const isStopped = (): boolean => isStopping;
const log = (line: string): void => console.log(line);
const append = (text: string): void => {
  if (options.evidence !== undefined) appendFileSync(options.evidence, text);
};

async function main(): Promise<void> {
  if (options.faults) return log(FAULT_NAMES.join("\n"));
  if (options.table) return makeTable();
  const { minutes, seed, subject, only } = options;
  log(`${subject}, seed ${seed}, ${minutes} minutes`);
  const report = await runCampaign({
    ...{ subject, seed, only, log },
    ...{ seconds: minutes * 60, holdMs: HOLD_MS, calmMs: CALM_MS },
    evidence: append,
    isStopped,
  });
  log(JSON.stringify(report, null, 2));
  if (options.json !== undefined) writeFileSync(options.json, JSON.stringify(report, null, 2));
  process.exitCode = report.staleAfterConvergence > 0 ? 1 : 0;
}

async function makeTable(): Promise<void> {
  const { rounds, rate, seed, only } = options;
  const unknown = only.filter((name) => !SCENARIO_NAMES.includes(name));
  if (unknown.length > 0) throw new Error(`no ${unknown} among ${SCENARIO_NAMES.join(", ")}`);
  const machine = describeMachine();
  const rows = await runTable({
    rounds,
    ratePerPair: rate,
    seed,
    only,
    log,
    evidence: append,
    isStopped,
  });
  log(tableOf(rows));
  if (options.json !== undefined) {
    writeFileSync(options.json, JSON.stringify({ machine, seed, rounds, rate, rows }, null, 2));
  }
}

// The first ends the run as its time would, so that nodes end what they have started.
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    if (isStopping) process.exit(1);
    isStopping = true;
  });
}
await main();

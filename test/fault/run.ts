/**
 * `npm run fault -- [--minutes 1] [--seed N] [--subject memward|nutcracker]`: real memcached shards
 * and real proxies in processes of their own, faults one after another, and a history of every
 * operation that is checked for stale reads. Prints the seed; the same seed makes the same
 * choices. Ends with 1 when a stale value was read.
 */
import { parseArgs } from "node:util";
import { z } from "zod";
import { runCampaign } from "./campaign.ts";
import { SUBJECT_NAMES } from "./subjects.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    subject: { type: "string", default: "memward" },
  },
});
const options = z
  .strictObject({
    minutes: z.coerce.number().positive(),
    seed: z.coerce.number().int(),
    subject: z.enum(SUBJECT_NAMES),
  })
  .parse(values);

const { minutes, seed, subject } = options;
const log = (line: string): void => console.log(line);
log(`${subject}, seed ${seed}, ${minutes} minutes`);
const report = await runCampaign({ subject, seconds: minutes * 60, seed, log });
log(JSON.stringify(report, null, 2));
process.exitCode = report.staleAfterConvergence > 0 ? 1 : 0;

/**
 * `npm run fuzz -- [--minutes 10] [--seed N] [--stream N] [--save NAME]`: fuzzes as long as asked
 * and prints its seed. A failure is shown made small, with the seed that repeats it; `--save` also
 * keeps it as a file in `regression/`, which every `npm test` sends again.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { clock } from "../../core/runtime/clock.ts";
import { missing } from "../harness/processes.ts";
import { type Failure, run, runOne, shown } from "./campaign.ts";
import { startServers } from "./servers.ts";
import { stored } from "./stream.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string" },
    stream: { type: "string" },
    save: { type: "string" },
  },
});
const PROGRESS_MS = 10_000;

async function main(): Promise<number> {
  const seed = Number(values.seed ?? clock.unixMs() % 2 ** 32);
  const minutes = Number(values.minutes);
  if (!Number.isInteger(seed) || !(minutes > 0)) {
    console.error("usage: npm run fuzz -- [--minutes N] [--seed N] [--stream N] [--save NAME]");
    return 2;
  }
  const absent = missing("memcached");
  if (absent !== undefined) console.log(`Only the framers are fuzzed: ${absent}.`);
  const servers = absent === undefined ? await startServers() : undefined;
  const endMs = clock.nowMs() + minutes * 60_000;
  let tellMs = clock.nowMs() + PROGRESS_MS;
  try {
    if (values.stream !== undefined) {
      return tell(await runOne(Number(values.stream), servers), 1);
    }
    console.log(`seed ${seed}, ${minutes} minutes`);
    const report = await run({
      seed,
      servers,
      isOver: (streamCount) => {
        if (clock.nowMs() > tellMs) {
          tellMs += PROGRESS_MS;
          console.log(`${streamCount} streams`);
        }
        return clock.nowMs() > endMs;
      },
    });
    return tell(report.failure, report.streamCount);
  } finally {
    await servers?.stop();
  }
}

function tell(failure: Failure | null, streamCount: number): number {
  console.log(`${streamCount} streams sent`);
  if (failure === null) return 0;
  console.log(shown(failure));
  if (values.save !== undefined) {
    const file = join(import.meta.dirname, "regression", `${values.save}.json`);
    const { check, stream, seed } = failure;
    writeFileSync(file, `${JSON.stringify({ check, seed, ...stored(stream) }, null, 2)}\n`);
    console.log(`kept as ${file}`);
  }
  return 1;
}

process.exitCode = await main();

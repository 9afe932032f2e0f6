/** One run: clients work; the nemesis makes a fault, heals it, waits a moment, makes the next. */
import { setTimeout as sleep } from "node:timers/promises";
import { clock } from "../../core/runtime/clock.ts";
import { seededRandom } from "../../core/runtime/random.ts";
import { History, type Totals } from "./history.ts";
import { strike } from "./nemesis.ts";
import { type SubjectName, startSubject } from "./subjects.ts";
import { Workload } from "./workload.ts";

const CLIENT_COUNT = 12;
/** After this all proxies have the same view. */
const CONVERGENCE_MS = 1_000;
const WARM_UP_MS = 2_000;
const CALM_MS = 4_000;

export type Report = Totals & {
  subject: SubjectName;
  seed: number;
  faults: Record<string, number>;
  /** Gets of a value older than the last acknowledged mutation of its key. */
  stale: number;
  /** The same, counted only where that mutation was older than the convergence of views. */
  staleAfterConvergence: number;
  /** The longest time over which mutations failed without a pause of a second. */
  failedMutationsMsMax: number;
};

export type CampaignOptions = {
  subject: SubjectName;
  seconds: number;
  seed: number;
  log(line: string): void;
};

export async function runCampaign(options: CampaignOptions): Promise<Report> {
  const { seed, log } = options;
  // Two streams of chance: what clients do must not change what the nemesis chooses.
  const random = seededRandom(seed);
  const subject = await startSubject(options.subject);
  const history = new History();
  const workload = new Workload({
    proxies: subject.proxies,
    clientCount: CLIENT_COUNT,
    random: seededRandom(seed + 1),
    history,
  });
  const faults: Record<string, number> = {};
  try {
    workload.start();
    await sleep(WARM_UP_MS);
    const endMs = clock.nowMs() + options.seconds * 1000;
    while (clock.nowMs() < endMs) {
      const before = history.totals();
      const fault = await strike(subject, random);
      faults[fault] = (faults[fault] ?? 0) + 1;
      await sleep(CALM_MS);
      const { failedMutations, mutations } = history.totals();
      const failed = failedMutations - before.failedMutations;
      const stale = history.stale(CONVERGENCE_MS).length;
      log(
        `${fault}: ${failed} of ${mutations - before.mutations} mutations failed, stale ${stale}`,
      );
    }
  } finally {
    await workload.stop();
    await subject.stop();
  }
  const stale = history.stale(CONVERGENCE_MS);
  for (const one of stale.slice(0, 10)) log(`stale: ${JSON.stringify(one)}`);
  return {
    subject: options.subject,
    seed,
    faults,
    ...history.totals(),
    stale: history.stale(0).length,
    staleAfterConvergence: stale.length,
    failedMutationsMsMax: longestFailure(history),
  };
}

function longestFailure(history: History): number {
  const failed = [...history.mutations.values()]
    .flat()
    .filter(({ outcome }) => outcome === "failed")
    .map(({ endMs }) => endMs)
    .sort((a, b) => a - b);
  let longest = 0;
  let first = failed[0] ?? 0;
  for (const [index, at] of failed.entries()) {
    if (index > 0 && at - (failed[index - 1] ?? at) > CONVERGENCE_MS) first = at;
    longest = Math.max(longest, at - first);
  }
  return Math.round(longest);
}

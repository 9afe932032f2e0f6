/** One run: clients work; the nemesis makes a fault, heals it, waits a moment, makes the next. */
import { setTimeout as sleep } from "node:timers/promises";
import { clock } from "../../core/runtime/clock.ts";
import { seededRandom } from "../../core/runtime/random.ts";
import { History, type Totals } from "./history.ts";
import { Nemesis } from "./nemesis.ts";
import { type SubjectName, startSubject } from "./subjects.ts";
import { Workload } from "./workload.ts";

const CLIENT_COUNT = 12;
/** After this all proxies have the same view. */
const CONVERGENCE_MS = 1_000;
const WARM_UP_MS = 2_000;

export type Report = Totals & {
  subject: SubjectName;
  seed: number;
  seconds: number;
  faults: Record<string, number>;
};

export type CampaignOptions = {
  subject: SubjectName;
  seconds: number;
  seed: number;
  /** How long a fault is held, and the calm after it. */
  holdMs: number;
  calmMs: number;
  /** Parts of the names of the faults to make; all if empty. */
  only?: readonly string[];
  log(line: string): void;
  /** Somebody wants it to end now. */
  isStopped?(): boolean;
  /** What the subject said, at the end. */
  evidence?(text: string): void;
};

export async function runCampaign(options: CampaignOptions): Promise<Report> {
  const { seed, log, seconds } = options;
  // Two streams of chance: what clients do must not change what the nemesis chooses.
  const nemesis = new Nemesis(seededRandom(seed), options.only);
  const subject = await startSubject(options.subject);
  const history = new History(CONVERGENCE_MS);
  const workload = new Workload({
    proxies: subject.proxies,
    clientCount: CLIENT_COUNT,
    random: seededRandom(seed + 1),
    history,
  });
  const faults: Record<string, number> = {};
  let logged = 0;
  try {
    workload.start();
    await sleep(WARM_UP_MS);
    const endMs = clock.nowMs() + seconds * 1000;
    while (clock.nowMs() < endMs && !options.isStopped?.()) {
      const before = history.totals;
      const { name, victim } = await nemesis.strike(subject, options.holdMs);
      faults[name] = (faults[name] ?? 0) + 1;
      await sleep(options.calmMs);
      const after = history.totals;
      const failed = after.failedMutations - before.failedMutations;
      log(
        `${name} (${victim}): ${failed} of ${after.mutations - before.mutations} mutations ` +
          `failed, ${after.falsified - before.falsified} values falsified, ` +
          `stale ${after.staleAfterConvergence}`,
      );
      for (const one of history.examples.slice(logged)) log(`stale: ${JSON.stringify(one)}`);
      logged = history.examples.length;
    }
    for (const one of history.falsifiedExamples) log(`falsified: ${JSON.stringify(one)}`);
    options.evidence?.(subject.output());
  } finally {
    await workload.stop();
    await subject.stop();
  }
  return { subject: options.subject, seed, seconds, faults, ...history.totals };
}

/** Who gives way, and what it starts: in processes of their own, for nobody can take it back. */
import { execFileSync } from "node:child_process";
import { getPriority } from "node:os";
import { expect, test } from "vitest";
import { mayTakeBack } from "../../../core/runtime/nice.ts";

const STEPS = 7;
const PRIORITY_MAX = 19;
const OWN = `process.stdout.write(String(require("node:os").getPriority()))`;
const MODULE = JSON.stringify(new URL("../../../core/runtime/nice.ts", import.meta.url).pathname);

/** What a process that has given way says of itself and of a process that it started. */
function prioritiesAfter(times: number): { own: number; started: number } {
  const script = `
    import { execFileSync } from "node:child_process";
    import { readdirSync } from "node:fs";
    import { getPriority } from "node:os";
    import { asStarted, giveWayWhole } from ${MODULE};
    for (let time = 0; time < ${times}; time++) giveWayWhole(${STEPS});
    const started = execFileSync(...asStarted(process.execPath, ["-e", ${JSON.stringify(OWN)}]));
    const threads = readdirSync("/proc/self/task").map((thread) => getPriority(Number(thread)));
    if (new Set(threads).size !== 1) throw new Error(threads.join());
    console.log(JSON.stringify({ own: getPriority(), started: Number(started) }));`;
  const answer = execFileSync(process.execPath, ["--input-type=module-typescript", "-e", script], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  return JSON.parse(answer.toString());
}

test.runIf(process.platform === "linux").each([0, 1, 2])(
  "who gives way %s times is nicer, and what it starts is not where that is allowed",
  (times) => {
    const before = getPriority();
    const { own, started } = prioritiesAfter(times);
    expect(own).toBe(Math.min(PRIORITY_MAX, before + times * STEPS));
    expect(started).toBe(mayTakeBack() ? before : own);
  },
);

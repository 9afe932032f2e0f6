/**
 * Who runs where, when the question is what a proxy does and not how an operating system shares two
 * cores among a dozen processes: the proxy gets the first core, and who only makes noise gets what
 * the others leave of the rest. Needs util-linux; on a single core all stay where they are.
 */
import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { promisify } from "node:util";

const run = promisify(execFile);

/** How Node names a thread in which a worker of a proxy serves its clients. */
const SERVING = "WorkerThread";

/** What serves clients in it has the first core to itself, as far as those go that stand back. */
export async function giveCore(pid: number): Promise<void> {
  const threads = readdirSync(`/proc/${pid}/task`).filter(
    (id) => readFileSync(`/proc/${pid}/task/${id}/comm`, "latin1").trim() === SERVING,
  );
  await Promise.all(threads.map((id) => place(["--cpu-list"], Number(id), "0")));
}

/** It runs on the other cores only, and there only while nobody else wants to (SCHED_IDLE). */
export async function standBack(pid: number): Promise<void> {
  await run("chrt", ["--all-tasks", "--idle", "--pid", "0", String(pid)]);
  await place(["--all-tasks", "--cpu-list"], pid, `1-${availableParallelism() - 1}`);
}

async function place(how: readonly string[], pid: number, cores: string): Promise<void> {
  if (availableParallelism() < 2) return;
  await run("taskset", [...how, "--pid", cores, String(pid)]);
}

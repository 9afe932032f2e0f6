/**
 * The load generator as seen from here: compiled once per bench from `loadgen/*.c`, then run once
 * per sample. What it prints is one line of JSON, checked before it is believed.
 */
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { z } from "zod";
import { find } from "../harness/processes.ts";
import { standBack } from "./cores.ts";

export type Load = {
  dialect: "text" | "meta" | "binary";
  sessions: number;
  sources: number;
  /** Requests per batch; with `multiget` keys of the one request. */
  batch: number;
  multiget: boolean;
  setPercent: number;
  valueSize: number;
  /** Keys per second; 0 is a closed loop. */
  rate: number;
};

/**
 * Where a server takes which load; binary sessions log in when there is a login, text sessions when
 * there is no listener that needs none.
 */
export type Target = {
  pids: readonly number[];
  /** From the call of the program until clients could connect, in milliseconds. */
  startMs?: number;
  plain?: string;
  /** `count` logins: sessions take username-0, username-1, … in turn. */
  login?: { address: string; username: string; password: string; count?: number };
};

export type Timing = { seconds: number; warmup: number; seed: number };

const count = z.number().min(0);
const countsSchema = z.strictObject({
  seconds: count,
  operations: count,
  perSecond: count,
  p50Us: count,
  p99Us: count,
  p999Us: count,
  hits: count,
  misses: count,
  failures: count,
  wrong: count,
  lost: count,
  cpuUs: count,
  generatorCpuUs: count,
  rssKbBefore: count,
  rssKb: count,
});
/** What a load counted, and how long its server took to start, 0 where that is not known. */
export type Counts = z.infer<typeof countsSchema> & { startMs: number };

const KEYS = 10_000;
const SOURCE_FOLDER = join(import.meta.dirname, "loadgen");
const run = promisify(execFile);

export type Generator = (
  command: "fill" | "run" | "idle" | "logins",
  target: Target,
  load: Load,
  timing: Timing,
  /** It leaves the CPU to others, see `standBack`. */
  standsBack?: boolean,
) => Promise<Counts>;

/** Compiles into `folder`. Throws a sentence for a person when there is no C compiler. */
export async function buildGenerator(folder: string): Promise<Generator> {
  const compiler = find("cc");
  if (compiler === undefined) {
    throw new Error("the load generator is C and there is no cc (apt-get install gcc libc6-dev)");
  }
  const program = join(folder, "loadgen");
  const sources = readdirSync(SOURCE_FOLDER).filter((name) => name.endsWith(".c"));
  const paths = sources.map((name) => join(SOURCE_FOLDER, name));
  await run(compiler, ["-O2", "-std=gnu17", "-Wall", "-Wextra", "-o", program, ...paths]);

  return async (command, target, load, timing, standsBack = false) => {
    const logsIn = load.dialect === "binary" || target.plain === undefined;
    const login = logsIn ? target.login : undefined;
    const address = login?.address ?? target.plain ?? "";
    const password = login === undefined ? {} : { LOADGEN_PASSWORD: login.password };
    const running = run(
      program,
      [
        command,
        ...["--target", address],
        ...(login === undefined ? [] : ["--username", login.username]),
        ...(login?.count === undefined ? [] : ["--logins", String(login.count)]),
        ...["--pids", target.pids.join(",")],
        ...["--seconds", String(timing.seconds), "--warmup", String(timing.warmup)],
        ...["--seed", String(timing.seed)],
        ...loadArguments(load),
      ],
      { env: { ...process.env, ...password } },
    );
    const { pid } = running.child;
    if (standsBack && pid !== undefined) await standBack(pid);
    const { stdout } = await running;
    return { ...countsSchema.parse(JSON.parse(stdout)), startMs: target.startMs ?? 0 };
  };
}

/** Values of different sizes live under different keys, so that each size can be checked. */
function loadArguments(load: Load): string[] {
  const values: Record<string, string | number> = {
    "--dialect": load.dialect,
    "--sessions": load.sessions,
    "--sources": load.sources,
    "--batch": load.batch,
    "--set-percent": load.setPercent,
    "--value-size": load.valueSize,
    "--rate": load.rate,
    "--keys": KEYS,
    "--prefix": `bench:${load.valueSize}:`,
  };
  const given = Object.entries(values).flatMap(([name, value]) => [name, String(value)]);
  return load.multiget ? [...given, "--multiget"] : given;
}

/** Why a sample must not be believed; empty when every reply was right. */
export function problemsOf(counts: Counts): string[] {
  const suspicious = ["misses", "failures", "wrong", "lost"] as const;
  const found = suspicious
    .filter((name) => counts[name] > 0)
    .map((name) => `${counts[name]} ${name}`);
  return counts.operations === 0 ? [...found, "nothing was answered"] : found;
}

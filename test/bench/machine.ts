/**
 * The machine and the programs that a figure belongs to. A ratio travels between machines better
 * than a value, but neither says much without this.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";
import { clock } from "../../core/runtime/clock.ts";
import { find } from "../harness/processes.ts";

export type Machine = Record<string, string | number>;

export function describeMachine(): Machine {
  return {
    date: new Date(clock.unixMs()).toISOString(),
    cpu: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    memoryGb: Math.round(totalmem() / 1e9),
    kernel: release(),
    congestionControl: readFileSync("/proc/sys/net/ipv4/tcp_congestion_control", "utf8").trim(),
    loadAverage: loadavg()[0]?.toFixed(2) ?? "unknown",
    node: process.version,
    memward: memwardVersion(),
    memcached: programVersion("memcached"),
    nutcracker: programVersion("nutcracker"),
  };
}

function memwardVersion(): string {
  const root = join(import.meta.dirname, "../..");
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const head = spawnSync("git", ["-C", root, "rev-parse", "--short", "HEAD"], { encoding: "utf8" });
  return head.status === 0 ? `${version} (${head.stdout.trim()})` : String(version);
}

/** "memcached 1.6.18" or "This is nutcracker-0.5.0", on either output. */
function programVersion(program: string): string {
  const shown = spawnSync(find(program) ?? program, ["-V"], { encoding: "utf8" });
  return /\d+\.\d+(\.\d+)?/.exec(shown.stdout + shown.stderr)?.[0] ?? "unknown";
}

/** The hard limit on open files; Node raised its own soft limit to it, children inherit that. */
export function openFilesMax(): number {
  const text = execFileSync("sh", ["-c", "ulimit -n"], { encoding: "utf8" }).trim();
  return text === "unlimited" ? Number.POSITIVE_INFINITY : Number(text);
}

/** A process and all processes below it: a proxy may run workers. */
export function processTree(pid: number): number[] {
  const tasks = `/proc/${pid}/task/${pid}/children`;
  const children = readFileSync(tasks, "utf8").trim().split(" ").filter(Boolean).map(Number);
  return [pid, ...children.flatMap(processTree)];
}

/**
 * How much of the time that it wanted this machine did not get from its host, in percent since
 * `before`: with more than one or two a latency is the host's. Fields of /proc/stat as in proc(5).
 */
export class HostShare {
  readonly #before = cpuTimes();

  stolenPercent(): number {
    const now = cpuTimes();
    const spent = now.map((value, at) => value - (this.#before[at] ?? 0));
    const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = spent;
    const wanted = user + nice + system + irq + softirq + steal;
    return wanted === 0 ? 0 : (steal * 100) / wanted;
  }
}

/** Of all processors together, in ticks. */
function cpuTimes(): number[] {
  const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n");
  return line.split(/ +/).slice(1).map(Number);
}

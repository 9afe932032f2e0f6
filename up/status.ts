/**
 * What `memward status` shows. The supervisor writes it to a file after each change, whole and by
 * rename; whether it is still true is told by the lock, so a killed instance is never shown as
 * running. No socket and no port: it also works while the supervisor is busy.
 */
import { chmodSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isClaimed } from "../core/runtime/lock.ts";
import { EXIT, type RoleView } from "../core/runtime/process.ts";
import type { StatusOptions } from "./options.ts";

export interface Status {
  pid: number;
  version: string;
  startedAtMs: number;
  ready: boolean;
  roles: RoleView[];
}

const statusPath = (runDir: string) => join(runDir, "status.json");

export function writeStatus(runDir: string, status: Status): void {
  const temporary = `${statusPath(runDir)}.new`;
  writeFileSync(temporary, `${JSON.stringify(status)}\n`, { mode: 0o600 });
  chmodSync(temporary, 0o600);
  renameSync(temporary, statusPath(runDir));
}

export function readStatus(runDir: string): Status | undefined {
  try {
    return JSON.parse(readFileSync(statusPath(runDir), "utf8")) as Status;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    if (error instanceof SyntaxError) return undefined; // Not written by us; the lock still counts.
    throw error;
  }
}

/** Prints to standard output; the exit code says whether an instance runs there. */
export function status(options: StatusOptions, print: (text: string) => void): number {
  const runDir = join(options.dataDir, "run");
  const found = isClaimed(runDir) ? readStatus(runDir) : undefined;
  if (found === undefined) {
    const sentence = `no instance is running in ${options.dataDir} (start one with: memward up)`;
    if (options.json) print(`${JSON.stringify({ running: false, roles: [] })}\n`);
    process.stderr.write(`memward: ${sentence}\n`);
    return EXIT.notRunning;
  }
  print(
    options.json ? `${JSON.stringify({ running: true, ...found })}\n` : statusTable(found.roles),
  );
  return EXIT.done;
}

export function statusTable(roles: readonly RoleView[]): string {
  const rows = [["ROLE", "NAME", "PID", "READY", "ADDRESSES"]];
  for (const { role, name, pid, ready, addresses } of roles) {
    rows.push([role, name, String(pid ?? "-"), ready ? "yes" : "no", addresses.join(" ")]);
  }
  const widths = rows[0]?.map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: string[]) => row.map((cell, at) => cell.padEnd(widths?.[at] ?? 0)).join("  ");
  return rows.map((row) => `${line(row).trimEnd()}\n`).join("");
}

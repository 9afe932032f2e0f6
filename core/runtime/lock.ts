/**
 * Claims on a data directory: one supervisor, one process of each name, at a time. A claim is
 * SQLite's exclusive lock on a file of its own, so the kernel drops it with the process, kill -9
 * included, and nobody ever has to delete a stale file by hand. Not for network filesystems that
 * ignore locks.
 */
import { chmodSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { clock, sleep } from "./clock.ts";

/** `memward status` looks at the lock for an instant; a start waits that out. */
const LOOK_MS_MAX = 500;
const SQLITE_BUSY = 5;
const WAIT_STEP_MS = 50;
const SUFFIX = ".lock";
/** The name of the supervisor's own claim. */
export const INSTANCE = "instance";

export interface Claim {
  release(): void;
}

/** Keeps each claim's database reachable: collected as garbage it would be closed, and unlocked. */
const held = new Set<DatabaseSync>();

/** undefined: a running instance has it. Other problems (read-only, full) are thrown. */
export function claim(runDir: string, name: string = INSTANCE): Claim | undefined {
  const path = join(runDir, `${name}${SUFFIX}`);
  const database = new DatabaseSync(path, { timeout: LOOK_MS_MAX });
  try {
    chmodSync(path, 0o600);
    // Writing now finds a directory where that is impossible; the lock is held until the end.
    database.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY");
    database.exec("BEGIN EXCLUSIVE; CREATE TABLE IF NOT EXISTS claim (pid INTEGER)");
    database.exec(`DELETE FROM claim; INSERT INTO claim VALUES (${process.pid}); COMMIT`);
    database.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    if (isBusy(error)) return undefined;
    throw error;
  }
  held.add(database);
  return {
    release() {
      held.delete(database);
      database.close();
    },
  };
}

/** Whether an instance runs now. Looks without keeping anything. */
export function isClaimed(runDir: string, name: string = INSTANCE): boolean {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(join(runDir, `${name}${SUFFIX}`), { readOnly: true });
    database.prepare("SELECT count(*) FROM sqlite_master").get();
    return false;
  } catch (error) {
    if (isBusy(error)) return true;
    return false; // No such file: nobody ever ran here.
  } finally {
    database?.close();
  }
}

/**
 * After a supervisor was killed its roles still drain for a moment, on the same ports and shards.
 * Waits for them; returns the names that are still there when the time is over.
 */
export async function waitForOthers(runDir: string, limitMs: number): Promise<string[]> {
  const deadlineMs = clock.nowMs() + limitMs;
  const names = readdirSync(runDir)
    .filter((file) => file.endsWith(SUFFIX))
    .map((file) => file.slice(0, -SUFFIX.length))
    .filter((name) => name !== INSTANCE);
  for (;;) {
    const alive = names.filter((name) => isClaimed(runDir, name));
    if (alive.length === 0 || clock.nowMs() > deadlineMs) return alive;
    await sleep(WAIT_STEP_MS);
  }
}

/** A role's own claim, as soon as the process of that name before it is gone. */
export async function claimSoon(
  runDir: string,
  { name, limitMs }: { name: string; limitMs: number },
): Promise<Claim | undefined> {
  const deadlineMs = clock.nowMs() + limitMs;
  for (;;) {
    const claimed = claim(runDir, name);
    if (claimed !== undefined || clock.nowMs() > deadlineMs) return claimed;
    await sleep(WAIT_STEP_MS);
  }
}

function isBusy(error: unknown): boolean {
  return ((error as { errcode?: number }).errcode ?? 0) % 256 === SQLITE_BUSY;
}

/**
 * The file behind the SQLite cluster state: made complete or not at all, opened only when it is
 * ours and sound. Every reason to refuse it is one sentence for the operator. It lies on a local
 * disk: WAL mode needs memory that its processes share. How it changes is in `sqlite.ts`.
 */
import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** "Memw": tells our file from any other SQLite database. */
const APPLICATION_ID = 0x4d656d77;
/** Grows when the tables change; an older program must not touch a newer file. */
const FORMAT = 1;
/** It names every credential's digest: nobody else's business. */
const FILE_MODE = 0o600;
const OPEN_WAIT_MAX_MS = 5_000;

/**
 * `record` is the present, `history` the newest changes in order (and so the revision counter:
 * its last row is the newest revision), `lease` who claims to be alive. AUTOINCREMENT: the id of
 * a lease that ended must never come back.
 */
const SCHEMA = `
  CREATE TABLE record (
    kind TEXT NOT NULL, id TEXT NOT NULL, value TEXT NOT NULL,
    revision INTEGER NOT NULL, lease INTEGER,
    PRIMARY KEY (kind, id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX record_lease ON record (lease) WHERE lease IS NOT NULL;
  CREATE TABLE history (
    revision INTEGER NOT NULL, position INTEGER NOT NULL,
    kind TEXT NOT NULL, id TEXT NOT NULL, value TEXT,
    PRIMARY KEY (revision, position)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE lease (
    id INTEGER PRIMARY KEY AUTOINCREMENT, expires_at_ms INTEGER NOT NULL
  ) STRICT;
  PRAGMA application_id = ${APPLICATION_ID};
  PRAGMA user_version = ${FORMAT};
`;

export type StateFileReason = "unreachable" | "damaged" | "foreign" | "newer";

/** Why the file cannot be used; the message is fit to be shown as it is. */
export class StateFileError extends Error {
  override readonly name = "StateFileError";
  readonly reason: StateFileReason;

  constructor(path: string, reason: StateFileReason, detail: string, cause?: unknown) {
    super(`cannot use the cluster state ${path}: ${detail.replace(/\s+/g, " ")}`, { cause });
    this.reason = reason;
  }
}

/** Opens the state file, making it first if there is none. Throws StateFileError. */
export function openStateFile(path: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    if (!existsSync(path)) create(path);
    database = new DatabaseSync(path, { timeout: OPEN_WAIT_MAX_MS });
    check(path, database);
    for (const suffix of ["", "-wal", "-shm"]) narrow(path + suffix);
    // From here on a locked file is waited for without blocking the process; see sqlite.ts.
    database.exec("PRAGMA busy_timeout = 0");
    return database;
  } catch (error) {
    database?.close();
    throw error instanceof StateFileError ? error : asStateFileError(path, error);
  }
}

/**
 * Made beside its place and then linked there: of several processes that start at once one wins,
 * and none ever sees a file without tables or not yet in WAL mode.
 */
function create(path: string): void {
  const scratch = mkdtempSync(join(dirname(path), ".state-"));
  try {
    const draft = join(scratch, "state");
    closeSync(openSync(draft, "wx", FILE_MODE));
    const database = new DatabaseSync(draft);
    database.exec("PRAGMA journal_mode = WAL");
    database.exec(SCHEMA);
    database.close();
    linkSync(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/**
 * Asks SQLite, though a look at the header would do: opening and closing the file by other means
 * would drop the locks that connections of this very process hold on it
 * (https://sqlite.org/howtocorrupt.html, section 2.2).
 */
function check(path: string, database: DatabaseSync): void {
  const pragma = (name: string): unknown =>
    Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0];
  if (pragma("application_id") !== APPLICATION_ID) {
    throw new StateFileError(path, "foreign", "the file is something else");
  }
  const format = Number(pragma("user_version"));
  if (format > FORMAT) {
    const detail = `it is of format ${format}, this Memward knows ${FORMAT}`;
    throw new StateFileError(path, "newer", detail);
  }
  const verdict = pragma("quick_check(1)");
  if (verdict !== "ok") throw new StateFileError(path, "damaged", `it is damaged: ${verdict}`);
}

function narrow(path: string): void {
  const mode = statSync(path, { throwIfNoEntry: false })?.mode ?? 0;
  if ((mode & 0o077) !== 0) chmodSync(path, FILE_MODE);
}

/** Primary result codes of SQLite (https://sqlite.org/rescode.html). */
const SQLITE_BUSY = 5;
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;
const REASON_OF = new Map<number | undefined, StateFileReason>([
  [SQLITE_CORRUPT, "damaged"],
  [SQLITE_NOTADB, "foreign"],
]);

function asStateFileError(path: string, error: unknown): StateFileError {
  const reason = REASON_OF.get(sqliteCode(error)) ?? "unreachable";
  const detail = error instanceof Error ? error.message : String(error);
  return new StateFileError(path, reason, detail, error);
}

/** Primary result code of an error of node:sqlite, undefined for any other error. */
function sqliteCode(error: unknown): number | undefined {
  const { code, errcode } = error as { code?: unknown; errcode?: unknown };
  return code === "ERR_SQLITE_ERROR" ? Number(errcode) & 0xff : undefined;
}

export const isSqliteError = (error: unknown): boolean => sqliteCode(error) !== undefined;
export const isBusy = (error: unknown): boolean => sqliteCode(error) === SQLITE_BUSY;

/**
 * The file in which a role keeps what it knows of the cluster state: all records of the kinds that
 * it follows, as of one revision, and behind them what changed since, one line for each revision.
 * It is replaced as a whole or grows by whole lines; half a line at its end is passed over.
 */
import { createWriteStream, type WriteStream } from "node:fs";
import { open, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { type Clock, paced } from "../runtime/clock.ts";
import { type Kind, RECORDS, withDefaults } from "./records.ts";
import type { Entry, Seen } from "./state.ts";

const FORMAT = 1;
/** It names every credential's digest: nobody else's business. */
const FILE_MODE = 0o600;
/** Records in one line: written and read in a millisecond. */
const RECORDS_PER_LINE = 200;

/** Changes that come one upon another are written together, so often. */
const WRITE_INTERVAL_MS = 100;
/** Changes that may wait for the disk. */
const WAITING_SIZE_MAX = 16 * 1024 * 1024;

/** `null` for a value: the record is gone. */
type Item = [kind: Kind, id: string, revision: number, value: unknown];
interface Header {
  memward: "snapshot";
  format: number;
  revision: number;
}
interface Line {
  /** The revision that made these changes; absent for the records at the beginning. */
  revision?: number;
  records: Item[];
}

export interface Snapshot {
  /** Records by id, of every kind that was followed. */
  readonly records: ReadonlyMap<Kind, ReadonlyMap<string, Entry>>;
  /** All changes up to this one are in it; later ones may be, too. */
  readonly revision: number;
  /** When it was last known to be all there is. */
  readonly trueAtMs: number;
}

/** Undefined if there is no file. Throws if there is one that is none of ours. */
export async function readSnapshot(path: string): Promise<Snapshot | undefined> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const [first = "", ...lines] = text.split("\n");
  const header = parsed<Header>(first);
  if (header?.memward !== "snapshot" || header.format !== FORMAT) {
    throw new Error(`${path} is not a snapshot of format ${FORMAT}`);
  }
  const records = new Map<Kind, Map<string, Entry>>();
  let { revision } = header;
  for (const text of lines) {
    const line = parsed<Line>(text);
    if (line === undefined) break; // The process ended while it wrote.
    for (const item of line.records) take(records, item);
    revision = Math.max(revision, line.revision ?? 0);
  }
  return { records, revision, trueAtMs: (await stat(path)).mtimeMs };
}

function take(records: Map<Kind, Map<string, Entry>>, [kind, id, revision, value]: Item): void {
  if (!Object.hasOwn(RECORDS, kind)) return;
  const ofKind = records.get(kind) ?? new Map<string, Entry>();
  records.set(kind, ofKind);
  if (value === null) ofKind.delete(id);
  else ofKind.set(id, { kind, id, value: withDefaults(kind, value as never), revision } as Entry);
}

/**
 * Writes a whole snapshot in turns of the event loop, on disk before it takes the place of the
 * one before.
 */
export async function writeSnapshot(
  path: string,
  { entries, revision }: { entries: readonly Entry[]; revision: number },
): Promise<void> {
  const draft = `${path}.new`;
  await rm(draft, { force: true });
  const file = await open(draft, "wx", FILE_MODE);
  try {
    const header: Header = { memward: "snapshot", format: FORMAT, revision };
    await file.write(`${JSON.stringify(header)}\n`);
    for (let at = 0; at < entries.length; at += RECORDS_PER_LINE) {
      const line: Line = { records: entries.slice(at, at + RECORDS_PER_LINE).map(itemOf) };
      await file.write(`${JSON.stringify(line)}\n`);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
}

/** Adds changes to a snapshot; a line each, so that a crash leaves whole ones. */
export class SnapshotTail {
  readonly #path: string;
  readonly #stream: WriteStream;
  #lines: string[] = [];
  readonly #writeSoon = paced(WRITE_INTERVAL_MS, () => this.#write());

  constructor(path: string, failed: (error: unknown) => void) {
    this.#path = path;
    this.#stream = createWriteStream(path, { flags: "a", mode: FILE_MODE });
    this.#stream.on("error", failed);
  }

  /** False when the disk does not keep up: then this tail is worth nothing. */
  append(seen: readonly Seen[], revision: number): boolean {
    const line: Line = { revision, records: seen.map(itemOf) };
    this.#lines.push(`${JSON.stringify(line)}\n`);
    this.#writeSoon();
    return this.#stream.writableLength <= WAITING_SIZE_MAX;
  }

  /** Notes that nothing is missing now. */
  async confirm(clock: Clock): Promise<void> {
    const seconds = clock.unixMs() / 1000;
    await utimes(this.#path, seconds, seconds);
  }

  close(): void {
    this.#write();
    this.#stream.end();
  }

  #write(): void {
    if (this.#lines.length > 0) this.#stream.write(this.#lines.join(""));
    this.#lines = [];
  }
}

const itemOf = ({ kind, id, revision, value }: Entry | Seen): Item => [kind, id, revision, value];

function parsed<T>(text: string): T | undefined {
  try {
    return JSON.parse(text) as T;
  } catch {
    return undefined; // Cut off.
  }
}

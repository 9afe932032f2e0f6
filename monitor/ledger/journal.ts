/**
 * What the monitor writes down while the cluster state does not answer: one line for each step, on
 * disk before anything of that step is said. A line is a checksum, a blank and JSON; half a line at
 * the end is what a crash leaves, and is passed over. Later lines of a document replace earlier
 * ones. When the state is back its contents go there and the file goes away.
 */
import {
  closeSync,
  fdatasyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { crc32 } from "node:zlib";
import type { Kind } from "../../core/cluster/records.ts";

const FILE_MODE = 0o600;
/** Then it is written anew with the last version of each document. */
const SIZE_MAX = 8 * 1024 * 1024;
const LINE_SIZE_MAX = 4 * 1024 * 1024;

/** A record that was changed without the state, and the revision that it had there; 0: none. */
export interface JournalDocument {
  readonly kind: Kind;
  readonly id: string;
  readonly value: unknown;
  readonly base: number;
}

export class Journal {
  readonly #path: string;
  readonly #sizeMax: number;
  readonly #documents = new Map<string, JournalDocument>();
  #file: number | undefined;
  #size = 0;
  /** Lines that were passed over when it was opened. */
  readonly tornCount: number;

  /** Opens what is there. Throws the system's error when it cannot be read. */
  constructor(path: string, { sizeMax = SIZE_MAX } = {}) {
    this.#path = path;
    this.#sizeMax = sizeMax;
    const { documents, size, tornCount } = readJournal(path);
    this.tornCount = tornCount;
    for (const document of documents) this.#take(document);
    this.#size = size;
    if (tornCount > 0) this.#cut(size);
  }

  get isEmpty(): boolean {
    return this.#documents.size === 0;
  }

  /** The last version of each document. */
  get documents(): JournalDocument[] {
    return [...this.#documents.values()];
  }

  /** On disk when this returns. Throws the system's error. */
  append(documents: readonly JournalDocument[]): void {
    if (documents.length === 0) return;
    for (const document of documents) this.#take(document);
    const line = lineOf(documents);
    if (this.#size + line.length > this.#sizeMax) return this.#rewrite();
    this.#file ??= openSync(this.#path, "a", FILE_MODE);
    writeWhole(this.#file, line);
    fdatasyncSync(this.#file);
    this.#size += line.length;
  }

  /** What it held is in the state now. */
  clear(): void {
    this.close();
    rmSync(this.#path, { force: true });
    this.#documents.clear();
    this.#size = 0;
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #take(document: JournalDocument): void {
    const name = `${document.kind} ${document.id}`;
    // What it was based on stays what it was when the state was last there.
    const base = this.#documents.get(name)?.base ?? document.base;
    this.#documents.set(name, { ...document, base });
  }

  #rewrite(): void {
    this.close();
    const draft = `${this.#path}.new`;
    rmSync(draft, { force: true });
    const file = openSync(draft, "wx", FILE_MODE);
    let size = 0;
    try {
      for (const document of this.#documents.values()) {
        const line = lineOf([document]);
        writeWhole(file, line);
        size += line.length;
      }
      fdatasyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(draft, this.#path);
    this.#size = size;
  }

  /** What comes next must not be glued to half a line. */
  #cut(size: number): void {
    const file = openSync(this.#path, "r+");
    try {
      ftruncateSync(file, size);
      fdatasyncSync(file);
    } finally {
      closeSync(file);
    }
  }
}

interface Read {
  documents: JournalDocument[];
  /** Of the whole lines at the beginning. */
  size: number;
  tornCount: number;
}

function readJournal(path: string): Read {
  const read: Read = { documents: [], size: 0, tornCount: 0 };
  const bytes = readIfThere(path);
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(0x0a, at);
    const documents = end < 0 ? undefined : parseLine(bytes.toString("utf8", at, end));
    // Lines are written one after the other: behind the first that is not whole there is nothing.
    if (documents === undefined) return { ...read, tornCount: 1 };
    read.documents.push(...documents);
    at = end + 1;
    read.size = at;
  }
  return read;
}

function readIfThere(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return Buffer.alloc(0);
    throw error;
  }
}

function lineOf(documents: readonly JournalDocument[]): Buffer {
  const text = JSON.stringify(documents);
  return Buffer.from(`${checksum(text)} ${text}\n`);
}

function parseLine(line: string): JournalDocument[] | undefined {
  if (line.length > LINE_SIZE_MAX) return undefined;
  const [, sum, text = ""] = /^([0-9a-f]{8}) (.*)$/s.exec(line) ?? [];
  if (sum === undefined || checksum(text) !== sum) return undefined;
  return JSON.parse(text) as JournalDocument[];
}

const checksum = (text: string): string => crc32(text).toString(16).padStart(8, "0");

function writeWhole(file: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
}

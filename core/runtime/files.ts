/** Small files that must survive a power cut whole, and that only their owner may read. */
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";

const FILE_SIZE_MAX = 64 * 1024;
const OWNER_ONLY = 0o600;

/** On disk when this returns. Whatever was there is replaced; a link is never followed. */
export function writePrivateFile(path: string, text: string): void {
  rmSync(path, { force: true });
  const file = openSync(path, "wx", OWNER_ONLY);
  try {
    writeSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Moves the new file into its place; the move itself survives a power cut, too. */
export function replaceFile(newPath: string, path: string): void {
  renameSync(newPath, path);
  const folder = openSync(dirname(path), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** The beginning of a file, as much as a file of ours can have; undefined if there is none. */
export function readSmallFile(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").slice(0, FILE_SIZE_MAX);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Secrets come from files: small, of one line, closed to others. Their text is never in an error. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

const SECRET_SIZE_MAX = 4 * 1024;
/** Others may neither read nor write it; a group may read, as container platforms mount secrets. */
const FORBIDDEN_MODE = 0o027;

export type SecretText =
  | { readonly ok: true; readonly text: string }
  | { readonly ok: false; readonly problem: string };

/** The file's text without the end of its line; a problem names the file, never what is in it. */
export function readSecretFile(path: string): SecretText {
  const problem = (message: string): SecretText => ({ ok: false, problem: `${path} ${message}` });
  let file: number | undefined;
  try {
    file = openSync(path, "r");
    const { mode, size } = fstatSync(file);
    // Looked at after opening, so that it is the file that is read.
    const permissions = mode & 0o777;
    if ((permissions & FORBIDDEN_MODE) !== 0) {
      const shown = permissions.toString(8).padStart(3, "0");
      return problem(`can be read or changed by others (mode ${shown}): chmod 600 it`);
    }
    if (size > SECRET_SIZE_MAX) return problem(`is larger than ${SECRET_SIZE_MAX} bytes`);
    const bytes = Buffer.alloc(SECRET_SIZE_MAX);
    const text = bytes.toString("utf8", 0, readSync(file, bytes)).replace(/\r?\n$/, "");
    if (text === "") return problem("is empty");
    if (text.includes("\n")) return problem("has more than one line");
    return { ok: true, text };
  } catch (error) {
    return problem(`cannot be read (${(error as NodeJS.ErrnoException).code ?? "unknown"})`);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

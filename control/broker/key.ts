/**
 * The key of the broker. A platform may repeat a bind request and has to get the same password,
 * but only digests are kept: so the password is made from this key and from what is on record.
 * Several control processes need the same key file; whoever loses it cannot repeat old answers,
 * nothing else.
 */
import { createHmac } from "node:crypto";
import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { lettersOf } from "../../core/cluster/credentials.ts";
import { Refusal } from "../../core/runtime/process.ts";
import { type SecureBytes, secureBytes } from "../../core/runtime/random.ts";

const KEY_SIZE = 32;
const OWNER_ONLY = 0o600;

/** Reads the key, after making it if there is none. Throws a Refusal if it cannot be had. */
export function openBrokerKey(path: string, random: SecureBytes = secureBytes): Buffer {
  try {
    return readKey(path) ?? makeKey(path, random);
  } catch (error) {
    if (error instanceof Refusal) throw error;
    const reason = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    throw new Refusal(`the broker key ${path} cannot be read or made (${reason})`);
  }
}

function readKey(path: string): Buffer | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  if (!/^[0-9a-f]+$/i.test(text) || text.length < KEY_SIZE * 2) {
    throw new Refusal(`${path} is no broker key: it holds 64 hexadecimal digits or more`);
  }
  return Buffer.from(text, "hex");
}

/** A link is there with all of its contents or not at all, and never replaces what is there. */
function makeKey(path: string, random: SecureBytes): Buffer {
  const draft = `${path}.${process.pid}`;
  const text = `${Buffer.from(random(KEY_SIZE)).toString("hex")}\n`;
  writeFileSync(draft, text, { mode: OWNER_ONLY, flush: true });
  try {
    linkSync(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  const key = readKey(path); // Ours, or that of another process that was faster.
  if (key === undefined) throw new Refusal(`the broker key ${path} was removed while it was made`);
  return key;
}

/** The password of a binding: 160 bits that only the holder of the key can know. */
export function bindingPassword(
  key: Uint8Array,
  { instance, binding, username }: { instance: string; binding: string; username: string },
): string {
  const subject = JSON.stringify(["binding", instance, binding, username]);
  return lettersOf(createHmac("sha256", key).update(subject).digest());
}

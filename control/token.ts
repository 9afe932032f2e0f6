/**
 * The first owner's token, in a file of the data directory: made once and kept. The order
 * (temporary file, commit, rename) leaves after any crash either nothing or a file beside the token
 * it belongs to. Deleting the file and starting again rotates it; once somebody has made an owner
 * token of another name, a file that is gone stays gone.
 */
import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import { digestOf, verify } from "../core/cluster/credentials.ts";
import type { Change, Entry } from "../core/cluster/state.ts";
import { readSmallFile, replaceFile, writePrivateFile } from "../core/runtime/files.ts";
import { auditChange, type Parts } from "./operations/change.ts";
import { newToken, TOKEN_PATTERN } from "./operations/tokens.ts";

export const OPERATOR_TOKEN_FILE = "operator.token";
const NAME = "operator";
const ATTEMPT_COUNT_MAX = 5;
const OWNER_ONLY = 0o600;

export type TokenFile = { path: string; did: "made" | "kept" | "finished" | "adopted" | "left" };

/** Brings state and file into agreement. Run again after a crash it ends at the same place. */
export async function prepareOperatorToken(
  parts: Pick<Parts, "state" | "clock" | "secureBytes">,
  dataDir: string,
): Promise<TokenFile> {
  const path = join(dataDir, OPERATOR_TOKEN_FILE);
  const temporary = `${path}.new`;
  for (let attempt = 1; attempt <= ATTEMPT_COUNT_MAX; attempt++) {
    const tokens = (await parts.state.list("token")).entries;
    const kept = readToken(path);
    const begun = readToken(temporary);
    if (kept !== undefined && works(tokens, kept)) {
      rmSync(temporary, { force: true });
      chmodSync(path, OWNER_ONLY);
      return { path, did: "kept" };
    }
    if (begun !== undefined && works(tokens, begun)) {
      replaceFile(temporary, path);
      return { path, did: "finished" };
    }
    if (!isNeeded(parts, tokens, kept)) return { path, did: "left" };
    const isAdopted = tokens.length === 0 && kept !== undefined;
    const token = isAdopted ? kept : tokenOf(newToken(parts.secureBytes).text);
    if (token === undefined) throw new Error("a new token is one");
    writePrivateFile(temporary, `${token.text}\n`);
    const commit = await parts.state.commit(changesFor(parts, tokens, token));
    if (!commit.ok && commit.reason === "invalid") throw new Error(commit.problems.join("; "));
    if (!commit.ok) continue; // Somebody else was faster: look again.
    replaceFile(temporary, path);
    return { path, did: isAdopted ? "adopted" : "made" };
  }
  throw new Error(`${path}: tokens were changed by others ${ATTEMPT_COUNT_MAX} times in a row`);
}

interface Token {
  readonly id: string;
  readonly secret: string;
  readonly text: string;
}

const readToken = (path: string): Token | undefined => tokenOf(readSmallFile(path)?.trim() ?? "");

function tokenOf(text: string): Token | undefined {
  const [, id, secret] = TOKEN_PATTERN.exec(text) ?? [];
  return id === undefined || secret === undefined ? undefined : { id, secret, text };
}

function works(tokens: readonly Entry<"token">[], { id, secret }: Token): boolean {
  const found = tokens.find((entry) => entry.id === id);
  return verify(found?.value.digest, Buffer.from(secret)) && found?.value.role === "owner";
}

/** Without an owner nobody could make one; without the file the owner may be only we. */
function isNeeded(
  { clock }: Pick<Parts, "clock">,
  tokens: readonly Entry<"token">[],
  kept: Token | undefined,
): boolean {
  const nowMs = clock.unixMs();
  const owners = tokens.filter(({ value: { role, expiresAtMs } }) => {
    return role === "owner" && (expiresAtMs === null || expiresAtMs > nowMs);
  });
  return owners.length === 0 || (kept === undefined && owners.every(isOurs));
}

const isOurs = ({ value }: Entry<"token">): boolean => value.name === NAME;

function changesFor(
  parts: Pick<Parts, "clock" | "secureBytes">,
  tokens: readonly Entry<"token">[],
  { id, secret }: Token,
): Change[] {
  const digest = digestOf(secret);
  if (digest.algorithm !== "sha256") throw new Error("a token's digest is SHA-256");
  const replaced = tokens.filter((entry) => isOurs(entry) && entry.id !== id);
  const value = { name: NAME, role: "owner" as const, digest, createdAtMs: parts.clock.unixMs() };
  return [
    ...replaced.map((entry) => {
      return { kind: "token", id: entry.id, value: null, expected: entry.revision } as const;
    }),
    { kind: "token", id, value, expected: 0 },
    auditChange(
      parts,
      { actor: "system:control", from: "" },
      {
        action: "token.create",
        cache: "",
        subject: NAME,
        before: replaced.length === 0 ? null : { id: replaced.map((entry) => entry.id).join(" ") },
        after: { id, name: NAME, role: "owner", expiresAt: null },
      },
    ),
  ];
}

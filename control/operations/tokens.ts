/**
 * Bearer tokens of operators: `mwt_<id>_<secret>`, made once, shown once, kept as digests. Somebody
 * can always make another: the last owner token that does not expire stays.
 */
import { z } from "zod";
import { newCredential, verify } from "../../core/cluster/credentials.ts";
import { OPERATOR_ROLES, type Token, tokenRecord } from "../../core/cluster/records.ts";
import type { Change } from "../../core/cluster/state.ts";
import type { SecureBytes } from "../../core/runtime/random.ts";
import type { Kept, View } from "../view.ts";
import { type Context, change, type Parts } from "./change.ts";
import { momentInput, momentOrNull, momentText } from "./input.ts";
import { conflict, forbidden, invalid, notFound, type Outcome } from "./outcome.ts";

export const TOKEN_COUNT_MAX = 1_000;
export const TOKEN_PATTERN = /^mwt_([a-z2-9]{12})_([a-z2-9]{32})$/;

export const newTokenInput = z.strictObject({
  name: tokenRecord.shape.name
    .regex(/^[A-Za-z0-9](?:[A-Za-z0-9 ._@-]*[A-Za-z0-9])?$/, "letters, digits, blanks, . _ @ -")
    .describe("Who holds it; the audit log shows it"),
  role: z.enum(OPERATOR_ROLES),
  expiresAt: momentInput.nullable().optional(),
});
export type NewTokenInput = z.output<typeof newTokenInput>;

export const tokenAnswer = z.strictObject({
  id: z.string(),
  name: z.string(),
  role: z.enum(OPERATOR_ROLES),
  expiresAt: z.string().nullable(),
  createdAt: z.string(),
  revision: z.int(),
});
export type ShownToken = z.output<typeof tokenAnswer>;
export const madeTokenAnswer = tokenAnswer.extend({
  token: z.string().describe("Shown now and never again"),
});
export type MadeToken = z.output<typeof madeTokenAnswer>;

export interface NewToken {
  readonly id: string;
  /** Shown to its owner now and never again. */
  readonly text: string;
  readonly digest: Token["digest"];
}

export function newToken(secureBytes: SecureBytes): NewToken {
  const { username: id, password: secret, digest } = newCredential(secureBytes);
  if (digest.algorithm !== "sha256") throw new Error("a token's digest is SHA-256");
  return { id, text: `mwt_${id}_${secret}`, digest };
}

/** The token behind the text, if it is one that works now. In constant time. */
export function tokenBehind(
  view: Pick<View, "tokens">,
  text: string,
  nowMs: number,
): Kept<Token> | undefined {
  const [, id = "", secret = ""] = TOKEN_PATTERN.exec(text) ?? [];
  const found = view.tokens.get(id);
  const isRight = verify(found?.value.digest, Buffer.from(secret));
  return found !== undefined && isRight && isValid(found.value, nowMs) ? found : undefined;
}

const isValid = ({ expiresAtMs }: Token, nowMs: number): boolean =>
  expiresAtMs === null || expiresAtMs > nowMs;

export function listTokens({ view }: Pick<Parts, "view">): ShownToken[] {
  const byName = [...view.tokens.values()].sort((a, b) => (a.value.name < b.value.name ? -1 : 1));
  return byName.map(shownToken);
}

export async function createToken(
  parts: Parts,
  context: Context,
  input: NewTokenInput,
): Promise<Outcome<MadeToken>> {
  const { clock, view, secureBytes } = parts;
  const { name, role } = input;
  const expiresAtMs = input.expiresAt ? Date.parse(input.expiresAt) : null;
  const made = newToken(secureBytes);
  return change(parts, context, async () => {
    const createdAtMs = clock.unixMs();
    if (expiresAtMs !== null && expiresAtMs <= createdAtMs) {
      return invalid({ path: "expiresAt", message: "is in the past" });
    }
    const taken = [...view.tokens.values()].find(({ value }) => value.name === name);
    if (taken !== undefined) return conflict(`there is a token named ${name}`, taken.revision);
    if (view.tokens.size >= TOKEN_COUNT_MAX) {
      return forbidden(`there are ${TOKEN_COUNT_MAX} tokens; delete one first`);
    }
    const value: Token = { name, role, digest: made.digest, expiresAtMs, createdAtMs };
    const after = audited({ id: made.id, value });
    return {
      ok: true,
      revision: 0,
      changes: [{ kind: "token", id: made.id, value, expected: 0 }],
      audit: { action: "token.create", cache: "", subject: name, before: null, after },
      value: (revision) => ({
        ...shownToken({ id: made.id, value, revision }),
        token: made.text,
      }),
    };
  });
}

/** An expired token is deleted the same way; it never was the last owner. */
export async function deleteToken(
  parts: Parts,
  context: Context,
  id: string,
  action: "token.delete" | "token.expire" = "token.delete",
): Promise<Outcome<ShownToken>> {
  const missing = notFound(`there is no token ${JSON.stringify(id)}`);
  return change(parts, context, async () => {
    if (!/^[a-z2-9]{12}$/.test(id)) return missing;
    const found = await parts.state.get("token", id);
    if (found === undefined) return missing;
    const changes: Change[] = [{ kind: "token", id, value: null, expected: found.revision }];
    const isOwner = found.value.role === "owner";
    if (isOwner && action === "token.delete") {
      const heir = otherOwner(parts.view, id);
      if (heir === undefined) return forbidden("one owner token that does not expire must remain");
      // Written again as it is: were it deleted at the same time, one of the two conflicts.
      const entry = await parts.state.get("token", heir);
      if (entry === undefined) {
        return conflict("owner tokens are being deleted by somebody else", found.revision);
      }
      const { value, revision } = entry;
      changes.push({ kind: "token", id: heir, value, expected: revision });
    }
    const before = audited(found);
    return {
      ok: true,
      revision: found.revision,
      changes,
      audit: { action, cache: "", subject: found.value.name, before, after: null },
      value: () => shownToken(found),
    };
  });
}

/** Ids of tokens whose time has come. */
export function expiredTokens({ view, clock }: Pick<Parts, "view" | "clock">): string[] {
  const nowMs = clock.unixMs();
  return [...view.tokens.values()].flatMap(({ id, value }) => (isValid(value, nowMs) ? [] : [id]));
}

function otherOwner(view: View, id: string): string | undefined {
  const others = [...view.tokens.values()].filter((one) => one.id !== id);
  return others.find(({ value }) => value.role === "owner" && value.expiresAtMs === null)?.id;
}

function shownToken({ id, value, revision }: Kept<Token>): ShownToken {
  return { ...audited({ id, value }), createdAt: momentText(value.createdAtMs), revision };
}

function audited({ id, value }: Pick<Kept<Token>, "id" | "value">) {
  const { name, role, expiresAtMs } = value;
  return { id, name, role, expiresAt: momentOrNull(expiresAtMs) };
}

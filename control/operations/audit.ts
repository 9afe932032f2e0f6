/** The audit log, newest first, page by page. Records are never changed; old ones are dropped. */
import { z } from "zod";
import type { Audit } from "../../core/cluster/records.ts";
import type { Entry } from "../../core/cluster/state.ts";
import { auditIdAt, OWN_CHANGES_MAX, type Parts } from "./change.ts";
import { momentText } from "./input.ts";
import { done, type Outcome, whenReachable } from "./outcome.ts";

export const AUDIT_PAGE_LENGTH_MAX = 500;
/** Records looked at for one page of one cache; the next page goes on where they end. */
const LOOKED_AT_MAX = 5_000;

export const auditAnswer = z.strictObject({
  id: z.string(),
  at: z.string(),
  actor: z.string(),
  from: z.string(),
  action: z.string(),
  cache: z.string().describe("Id of the cache, empty if it concerns none"),
  subject: z.string(),
  before: z.unknown(),
  after: z.unknown(),
});
export type ShownAudit = z.output<typeof auditAnswer>;

export interface AuditPage {
  /** Ids below this one: the `next` of the page before. */
  readonly before?: string | undefined;
  readonly limit?: number | undefined;
  /** Name or id; an id also finds what concerned a cache that is gone. */
  readonly cache?: string | undefined;
}

export async function listAudit(
  { state, view }: Pick<Parts, "state" | "view">,
  { before, limit = 100, cache }: AuditPage,
): Promise<Outcome<{ records: ShownAudit[]; next: string | null }>> {
  const cacheId = cache === undefined ? undefined : (view.cache(cache)?.id ?? cache);
  return whenReachable(async () => {
    const records: ShownAudit[] = [];
    let cursor = before;
    let lookedAt = 0;
    for (;;) {
      const pageLength = cacheId === undefined ? limit : AUDIT_PAGE_LENGTH_MAX;
      const { entries, revision } = await state.list("audit", {
        descending: true,
        limit: pageLength,
        ...(cursor === undefined ? {} : { before: cursor }),
      });
      for (const entry of entries) {
        cursor = entry.id;
        if (cacheId === undefined || entry.value.cache === cacheId) records.push(shown(entry));
        if (records.length >= limit) break;
      }
      lookedAt += entries.length;
      const isAll = entries.length < pageLength;
      if (records.length >= limit || isAll || lookedAt >= LOOKED_AT_MAX) {
        const isEnd = isAll && cursor === entries.at(-1)?.id;
        return done(
          { records, next: isEnd || entries.length === 0 ? null : (cursor ?? null) },
          revision,
        );
      }
    }
  });
}

/** Drops some of the records from before that moment; resolves with how many. */
export async function dropAuditBefore(
  { state }: Pick<Parts, "state">,
  atMs: number,
): Promise<number> {
  const { entries } = await state.list("audit", {
    before: auditIdAt(atMs),
    limit: OWN_CHANGES_MAX,
  });
  if (entries.length === 0) return 0;
  await state.commit(entries.map(({ id }) => ({ kind: "audit", id, value: null })));
  return entries.length;
}

function shown({ id, value }: Entry<"audit">): ShownAudit {
  const { atMs, actor, from, action, cache, subject, before, after }: Audit = value;
  return { id, at: momentText(atMs), actor, from, action, cache, subject, before, after };
}

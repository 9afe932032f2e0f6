/** Pieces of input that several operations take. */
import { z } from "zod";

/** Moments travel as text, like 2026-11-21T12:00:00Z. */
export const momentInput = z.iso
  .datetime({ offset: true, abort: true, error: "a moment like 2026-11-21T12:00:00Z" })
  .refine((text) => Date.parse(text) < MOMENT_MS_MAX, "before the year 3000");

/** The year 3000. */
const MOMENT_MS_MAX = 32_503_680_000_000;

export const PAGE_LENGTH_MAX = 1_000;

export const momentText = (ms: number): string => new Date(ms).toISOString();
export const momentOrNull = (ms: number | null): string | null =>
  ms === null ? null : momentText(ms);

/** One page of what is sorted by `keyOf`, and where the next one begins. */
export function pageOf<T>(
  all: readonly T[],
  { after, limit = PAGE_LENGTH_MAX }: { after?: string | undefined; limit?: number | undefined },
  keyOf: (one: T) => string,
): { page: T[]; next: string | null } {
  const begin = after === undefined ? 0 : all.findIndex((one) => keyOf(one) > after);
  const page = begin < 0 ? [] : all.slice(begin, begin + limit);
  const last = page.at(-1);
  const isMore = begin >= 0 && begin + limit < all.length;
  return { page, next: isMore && last !== undefined ? keyOf(last) : null };
}

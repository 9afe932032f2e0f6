/**
 * Values as people write and read them: durations, moments, sizes, limits, networks. What is read
 * here is checked here; whether the cluster can do it is the API's to say.
 */
import { z } from "zod";
import { clock } from "../core/runtime/clock.ts";
import { parseSize } from "../core/runtime/config.ts";

const SECOND_MS = 1_000;
const UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: SECOND_MS,
  m: 60 * SECOND_MS,
  h: 3_600 * SECOND_MS,
  d: 86_400 * SECOND_MS,
  w: 7 * 86_400 * SECOND_MS,
};
/** Ten years; beyond it somebody mistook the unit. */
const DURATION_MS_MAX = 3_660 * 86_400 * SECOND_MS;

/** `90s`, `10m`, `1.5h`, `7d`, `2w` in milliseconds; undefined when it is none. `0` is zero. */
export function parseDuration(text: string): number | undefined {
  if (text === "0") return 0;
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|[smhdw])$/.exec(text.trim());
  if (match === null) return undefined;
  const durationMs = Math.round(Number(match[1]) * (UNITS_MS[match[2] ?? ""] ?? Number.NaN));
  return durationMs <= DURATION_MS_MAX ? durationMs : undefined;
}

/** RFC 3339 with a zone, or a duration from now on; the moment in RFC 3339, in UTC. */
export function parseMoment(text: string, nowMs: number): string | undefined {
  const durationMs = parseDuration(text);
  if (durationMs !== undefined) return new Date(nowMs + durationMs).toISOString();
  const isMoment = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})$/.test(text);
  const atMs = isMoment ? Date.parse(text) : Number.NaN;
  return Number.isNaN(atMs) ? undefined : new Date(atMs).toISOString();
}

/** A duration; milliseconds come out. */
export const durationOption = () =>
  z
    .string()
    .transform(reading(parseDuration, "is not a duration like 90s, 10m, 24h or 7d"))
    .meta({ word: "DURATION" });

/** A moment or a duration from now on, or `never`; RFC 3339 or null comes out. */
export const momentOption = () =>
  z
    .string()
    .transform(
      reading(
        (text) => (text === "never" ? null : parseMoment(text, clock.unixMs())),
        "is neither a moment like 2026-12-31T00:00:00Z nor a duration like 30d, nor never",
      ),
    )
    .meta({ word: "MOMENT" });

/** A size; bytes come out. What is too small or too large, the API says. */
export const bytesOption = () =>
  z
    .string()
    .transform(reading(parseSize, "is not a size like 100mb or 2.5gb"))
    .meta({ word: "SIZE" });

/** A count, or `none` for no limit; a number or null comes out. */
export const limitOption = () =>
  z
    .string()
    .transform(
      reading(
        (text) => (text === "none" ? null : /^\d{1,12}$/.test(text) ? Number(text) : undefined),
        "is neither a whole number nor none",
      ),
    )
    .meta({ word: "NUMBER|none" });

function reading<T>(read: (text: string) => T | undefined, otherwise: string) {
  return (text: string, context: z.core.$RefinementCtx<string>): T => {
    const value = read(text);
    if (value !== undefined) return value;
    const message = `${JSON.stringify(text)} ${otherwise}`;
    context.issues.push({ code: "custom", message, input: text });
    return z.NEVER;
  };
}

const SIZES = ["b", "kb", "mb", "gb", "tb"];

/** `25mb`, `1.2gb`: at most one decimal, in the units in which sizes are given. */
export function sizeForPeople(bytes: number): string {
  let size = bytes;
  let unit = 0;
  while (size >= 1024 && unit < SIZES.length - 1) {
    size /= 1024;
    unit += 1;
  }
  const digits = size >= 100 || unit === 0 ? Math.round(size) : Math.round(size * 10) / 10;
  return `${digits}${SIZES[unit]}`;
}

/** `12,345,678`. */
export function countForPeople(count: number): string {
  return count.toLocaleString("en-US");
}

const SPANS: readonly (readonly [unit: string, lengthMs: number])[] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
];

/** `3 min ago`, `in 12 d`, `now`: the largest unit that fits. */
export function momentForPeople(atMs: number, nowMs: number): string {
  const spanMs = Math.abs(nowMs - atMs);
  const [unit, lengthMs] = SPANS.find(([, length]) => spanMs >= length) ?? ["", 0];
  if (lengthMs === 0) return "now";
  const isAhead = atMs > nowMs;
  // What was given as 24h is "in 24 h" a moment later, too.
  const count = isAhead ? Math.round(spanMs / lengthMs) : Math.floor(spanMs / lengthMs);
  const span = `${countForPeople(count)} ${unit}`;
  return isAhead ? `in ${span}` : `${span} ago`;
}

/** How far away a moment is that the API names; "" when it is none. */
export function age(moment: string): string {
  const atMs = Date.parse(moment);
  return Number.isNaN(atMs) ? "" : momentForPeople(atMs, clock.unixMs());
}

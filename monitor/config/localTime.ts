/**
 * Wall clocks of IANA time zones, by `Intl` alone. A wall clock's time is a number as `Date.UTC`
 * would make it if that clock showed UTC; it may come twice a year, or not at all.
 */

const DAY_MS = 86_400_000;
const formats = new Map<string, Intl.DateTimeFormat>();

export function isTimeZone(zone: string): boolean {
  try {
    new Intl.DateTimeFormat("en-US", { timeZone: zone });
    return true;
  } catch {
    return false; // RangeError is how Intl says no.
  }
}

/** What the wall clock of `zone` shows at a moment. Whole seconds, as offsets are. */
export function localOf(unixMs: number, zone: string): number {
  const parts: Record<string, number> = {};
  for (const { type, value } of formatOf(zone).formatToParts(unixMs)) parts[type] = Number(value);
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts;
  return Date.UTC(year, month - 1, day, hour, minute, second);
}

/**
 * The moment at which that wall clock shows `localMs`: the first of two when clocks are set back,
 * and as much later as they skip when they are set forward.
 */
export function momentOf(localMs: number, zone: string): number {
  const before = localMs - offsetAt(localMs - DAY_MS, zone);
  const after = localMs - offsetAt(localMs + DAY_MS, zone);
  const found = [before, after].filter((moment) => localOf(moment, zone) === localMs);
  return found.length === 0 ? before : Math.min(...found);
}

/** `14:02:07` and `2026-01-05 14:02` of that clock. */
export function clockText(unixMs: number, zone: string): string {
  return new Date(localOf(unixMs, zone)).toISOString().slice(11, 19);
}
export function dayText(unixMs: number, zone: string): string {
  return new Date(localOf(unixMs, zone)).toISOString().slice(0, 16).replace("T", " ");
}

function offsetAt(unixMs: number, zone: string): number {
  return localOf(unixMs, zone) - Math.floor(unixMs / 1_000) * 1_000;
}

/** Making a format costs a hundred times what using it does. Zones come from the configuration. */
function formatOf(zone: string): Intl.DateTimeFormat {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat("en-US", {
      timeZone: zone,
      calendar: "iso8601",
      numberingSystem: "latn",
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    });
    formats.set(zone, format);
  }
  return format;
}

/** Lengths of time and moments of a wall clock as people write them; pure. */

const UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
const PLAIN = /^(?:\d{1,9}(?:ms|[smhdw]))+$/;
const ISO = /^P(?:(\d{1,4})W)?(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,8})S)?)?$/;
const ISO_UNITS = ["w", "d", "h", "m", "s"];

/** `30s`, `15m`, `1h30m`, `PT30S`, `P7D`: milliseconds; undefined when it is none of these. */
export function parseDuration(text: string): number | undefined {
  const trimmed = text.trim();
  const iso = ISO.exec(trimmed.toUpperCase());
  if (iso !== null) {
    const parts = iso.slice(1);
    if (parts.every((part) => part === undefined)) return undefined;
    return sum(parts.map((part, index) => Number(part ?? 0) * unitMs(ISO_UNITS[index])));
  }
  const plain = trimmed.toLowerCase();
  if (!PLAIN.test(plain)) return undefined;
  const parts = plain.matchAll(/(\d+)(ms|[smhdw])/g);
  return sum([...parts].map(([, digits, unit]) => Number(digits) * unitMs(unit)));
}

/** As a person would say it: `45 s`, `6 min`, `2 h 5 min`, `3 d`. */
export function durationText(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours >= 48) return `${Math.round(hours / 24)} d`;
  return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
}

const LOCAL = /^(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d))?)?$/;

/**
 * `2026-01-05T09:00`, or a date alone for its midnight: milliseconds since 1970 if that clock
 * showed UTC. Undefined when it is no such text or no such day.
 */
export function parseLocal(text: string): number | undefined {
  const match = LOCAL.exec(text.trim());
  if (match === null) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1).map((part) => Number(part ?? 0));
  const ms = Date.UTC(year ?? 0, (month ?? 0) - 1, day, hour, minute, second);
  const isReal = new Date(ms).toISOString().startsWith(text.trim().slice(0, 16));
  return isReal ? ms : undefined;
}

const unitMs = (unit: string | undefined) => UNITS_MS[unit ?? ""] ?? Number.NaN;
const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0);

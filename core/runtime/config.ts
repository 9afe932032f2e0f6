/**
 * Options are rows of a zod schema: kind, bounds, default and help stand in one place, and from it
 * come the flags, the `MEMWARD_*` variables, the configuration file's check and the help text.
 * Nearer wins: flag, then variable, then file, then default. Unknown keys are errors; all problems
 * are told at once, each with the place it came from; a result that passed is frozen.
 */
import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { z } from "zod";

export interface Problem {
  /** The flag, variable or path in the file that is wrong. */
  where: string;
  message: string;
}
export type Checked<T> = { ok: true; value: T } | { ok: false; problems: Problem[] };

export interface OptionRow {
  key: string;
  flag: string;
  variable: string;
  kind: "switch" | "text" | "number" | "list";
  /** What stands for its value in help: HOST:PORT, SIZE. */
  word: string;
  help: string;
  default: string | undefined;
  /** All that it can be, where there are only a few; for completion. */
  values: readonly string[];
}

type Values = Record<string, unknown>;

/** The rows of a schema, in the order in which it names them. */
export function optionRows(schema: z.ZodObject): OptionRow[] {
  return Object.entries(schema.shape).map(([key, field]) => optionRow(key, field as z.ZodType));
}

export interface Given {
  flags?: Values;
  variables?: Readonly<Record<string, string | undefined>>;
  file?: Values;
}

/** Merges what was given, nearest first, and checks it. */
export function resolveOptions<S extends z.ZodObject>(
  schema: S,
  { flags = {}, variables = {}, file = {} }: Given,
): Checked<z.infer<S>> {
  const merged: Values = { ...file };
  const places = new Map<string, string>();
  const rows = optionRows(schema);
  for (const row of rows) {
    const variable = variables[row.variable];
    if (flags[row.key] !== undefined) {
      merged[row.key] = fromText(row, flags[row.key]);
      places.set(row.key, `--${row.flag}`);
    } else if (variable !== undefined && variable !== "") {
      merged[row.key] = fromText(row, row.kind === "list" ? variable.split(",") : variable);
      places.set(row.key, row.variable);
    }
  }
  return check(schema, merged, (path) => {
    const key = String(path[0]);
    const missing = file[key] === undefined ? rows.find((row) => row.key === key) : undefined;
    return places.get(key) ?? (missing === undefined ? pathText(path) : `--${missing.flag}`);
  });
}

export function check<S extends z.ZodType>(
  schema: S,
  value: unknown,
  place: (path: readonly PropertyKey[]) => string = pathText,
): Checked<z.infer<S>> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { ok: true, value: deepFreeze(parsed.data) };
  const problems = parsed.error.issues.flatMap((issue): Problem[] => {
    if (issue.code !== "unrecognized_keys") {
      return [{ where: place(issue.path), message: messageOf(issue) }];
    }
    return issue.keys.map((key) => ({
      where: place([...issue.path, key]),
      message: "unknown key",
    }));
  });
  return { ok: false, problems };
}

/** Reads YAML (JSON is YAML). The parser is loaded only when there is a file. */
export async function readConfigFile(path: string): Promise<Checked<Values>> {
  const { readFile } = await import("node:fs/promises");
  const { parseDocument } = await import("yaml");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    return { ok: false, problems: [{ where: path, message: `cannot be read (${reason})` }] };
  }
  const document = parseDocument(text, { prettyErrors: true, maxAliasCount: 0 } as object);
  if (document.errors.length > 0) {
    const problems = document.errors.map((error) => ({
      where: path,
      message: firstLine(error.message),
    }));
    return { ok: false, problems };
  }
  const value: unknown = document.toJS({ maxAliasCount: 0 }) ?? {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { ok: false, problems: [{ where: path, message: "must be a map of options" }] };
  }
  return { ok: true, value: value as Values };
}

export interface Address {
  host: string;
  port: number;
}

/** `host:port`, `[v6]:port`; undefined when it is neither. Port 0 lets the system choose. */
export function parseAddress(text: string): Address | undefined {
  const match = /^(?:\[([^\]]*)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const host = match[1] ?? match[2] ?? "";
  const port = Number(match[3]);
  if (port > 65_535 || (match[1] !== undefined && isIP(host) !== 6)) return undefined;
  // Digits and dots alone are meant as IPv4; "127.0.0.999" would become a name lookup.
  if (/^[\d.]+$/.test(host) && isIP(host) !== 4) return undefined;
  return { host, port };
}

export function formatAddress({ host, port }: Address): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * An address as others write it: one that means "all interfaces" is no place to connect to, so
 * this machine's first outward address stands for it.
 */
export function reachableAddress(address: string): string {
  const parsed = parseAddress(address);
  if (parsed === undefined || !["0.0.0.0", "::"].includes(parsed.host)) return address;
  const outward = Object.values(networkInterfaces())
    .flat()
    .find((one) => one !== undefined && !one.internal && one.family === "IPv4");
  return formatAddress({ host: outward?.address ?? "127.0.0.1", port: parsed.port });
}

const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  kb: 1024,
  mb: 1024 ** 2,
  gb: 1024 ** 3,
  tb: 1024 ** 4,
};

/** `100mb`, `2.5gb`, `1048576`; units are powers of 1024, as memcached's `-m` means them. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]i?b?|b|)$/i.exec(text.trim());
  if (match === null) return undefined;
  const unit = (match[2] ?? "").toLowerCase().replace("i", "");
  const factor = SIZE_UNITS[unit.length === 1 && unit !== "b" ? `${unit}b` : unit];
  const size = Math.round(Number(match[1]) * (factor ?? Number.NaN));
  return Number.isSafeInteger(size) ? size : undefined;
}

/** Schema of an address option. */
export const addressOption = () =>
  z
    .string()
    .refine((text) => parseAddress(text) !== undefined, {
      error: (issue) => `${quoted(issue.input)} is not HOST:PORT (IPv6 as [::1]:11211)`,
    })
    .meta({ word: "HOST:PORT" });

/** Schema of a size option: bytes come out. */
export const sizeOption = ({ sizeMin, sizeMax }: { sizeMin: number; sizeMax: number }) =>
  z
    .union([z.number(), z.string()])
    .transform((input, context) => {
      const size = parseSize(String(input));
      if (size !== undefined && size >= sizeMin && size <= sizeMax) return size;
      const message =
        size === undefined
          ? `${quoted(input)} is not a size like 100mb or 2.5gb`
          : `${quoted(input)} must be from ${sizeText(sizeMin)} to ${sizeText(sizeMax)}`;
      context.issues.push({ code: "custom", message, input });
      return z.NEVER;
    })
    .meta({ word: "SIZE" });

export function sizeText(size: number): string {
  for (const [unit, factor] of Object.entries(SIZE_UNITS).reverse()) {
    if (unit !== "" && size >= factor && Number.isInteger((size / factor) * 10)) {
      return `${size / factor}${unit}`;
    }
  }
  return `${size}`;
}

const HELP_WIDTH_MAX = 100;
/** Usages longer than this stand on a line of their own, so that the others keep room. */
const USAGE_WIDTH_MAX = 26;

/** The rows as aligned lines of at most 100 columns, for `memward help COMMAND` and the manual. */
export function optionsHelp(rows: readonly OptionRow[]): string {
  const usage = (row: OptionRow) => (row.kind === "switch" ? row.flag : `${row.flag} ${row.word}`);
  const widths = rows.map((row) => usage(row).length).filter((width) => width <= USAGE_WIDTH_MAX);
  const width = Math.max(0, ...widths);
  const indent = " ".repeat(width + 6);
  const lines = rows.map((row) => {
    const preset = row.default === undefined ? "" : ` (default ${row.default})`;
    const repeat = row.kind === "list" ? "; may be repeated" : "";
    const text = wrapped(`${row.help}${repeat}${preset}`, HELP_WIDTH_MAX - indent.length);
    const begin =
      usage(row).length > width ? `${usage(row)}\n${indent}` : usage(row).padEnd(width + 2);
    return `  --${begin}${text.join(`\n${indent}`)}`;
  });
  return lines.join("\n");
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= width) {
      lines[lines.length - 1] = `${line} ${word}`;
    } else lines.push(word);
  }
  return lines;
}

function optionRow(key: string, field: z.ZodType): OptionRow {
  let preset: unknown;
  let help: string | undefined;
  let word: unknown;
  let values: readonly string[] = [];
  let inner: z.ZodType | undefined = field;
  let last = field;
  while (inner !== undefined) {
    const def = inner.def as unknown as Values;
    if (def["type"] === "enum") values = Object.keys(def["entries"] as object);
    if ("defaultValue" in def) preset = def["defaultValue"];
    help ??= inner.description;
    word ??= z.globalRegistry.get(inner)?.["word"];
    if (kindOf(last) !== "list") last = inner;
    inner = (def["innerType"] ?? def["element"]) as z.ZodType | undefined;
  }
  const flag = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const variable = `MEMWARD_${flag.replaceAll("-", "_").toUpperCase()}`;
  const kind = kindOf(last);
  return {
    key,
    flag,
    variable,
    kind,
    word: String(word ?? (kind === "number" ? "NUMBER" : "VALUE")),
    help: help ?? "",
    default: presetText(preset),
    values,
  };
}

function kindOf(field: z.ZodType): OptionRow["kind"] {
  if (field.def.type === "boolean") return "switch";
  if (field.def.type === "array") return "list";
  return field.def.type === "number" ? "number" : "text";
}

function presetText(preset: unknown): string | undefined {
  if (preset === undefined || preset === false) return undefined;
  if (Array.isArray(preset)) return preset.length === 0 ? undefined : preset.join(",");
  return String(preset);
}

/** Flags and variables are text; what cannot be converted stays text and fails the check. */
function fromText(row: OptionRow, given: unknown): unknown {
  if (row.kind === "number" && typeof given === "string") {
    return /^-?\d+(\.\d+)?$/.test(given) ? Number(given) : given;
  }
  if (row.kind === "switch" && typeof given === "string") {
    return { true: true, "1": true, false: false, "0": false }[given] ?? given;
  }
  if (row.kind === "list" && Array.isArray(given)) {
    return given.flatMap((text) => String(text).split(",")).map((text) => text.trim());
  }
  return given;
}

/** zod's sentences, shorter; ours (from `refine` and `transform`) pass as they are. */
export function messageOf(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_type") {
    const words: Readonly<Record<string, string>> = {
      int: "a whole number",
      number: "a number",
      string: "text",
      boolean: "true or false",
      array: "a list",
      object: "a map",
    };
    const expected = words[issue.expected] ?? issue.expected;
    return issue.message.endsWith("undefined") ? "is required" : `must be ${expected}`;
  }
  if (issue.code === "too_small") return `must be at least ${countOf(issue, issue.minimum)}`;
  if (issue.code === "too_big") return `must be at most ${countOf(issue, issue.maximum)}`;
  if (issue.code === "invalid_value") return `must be one of ${issue.values.join(", ")}`;
  return issue.message;
}

function countOf({ origin }: { origin: string }, limit: number | bigint): string {
  const units: Readonly<Record<string, string>> = { string: " characters", array: " entries" };
  return `${limit}${units[origin] ?? ""}`;
}

const quoted = (input: unknown) => JSON.stringify(input) ?? "nothing";
const firstLine = (text: string) => text.split("\n", 1)[0] ?? text;

function pathText(path: readonly PropertyKey[]): string {
  return path.map(String).join(".") || "the file";
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}

/** Tables and lists for people. What an answer lacks is shown as a dash, never guessed. */

/** One value of an answer of the API; nothing about it is taken for granted. */
export type Json = unknown;

/** A column: its title and how a row shows in it. Numbers that are compared stand to the right. */
export interface Column {
  title: string;
  cell(row: Json): string;
  right?: boolean;
}

const GAP = "  ";
export const NOTHING = "-";

/** Titles and rows, aligned; only the titles when there are no rows. */
export function table(columns: readonly Column[], rows: readonly Json[]): string {
  const lines = [
    columns.map(({ title }) => title),
    ...rows.map((row) => columns.map(({ cell }) => oneLine(cell(row)) || NOTHING)),
  ];
  const widths = columns.map((_, at) => Math.max(...lines.map((line) => width(line[at] ?? ""))));
  const padded = (cell: string, at: number): string => {
    const fill = " ".repeat((widths[at] ?? 0) - width(cell));
    return columns[at]?.right ? fill + cell : cell + fill;
  };
  return lines.map((line) => `${line.map(padded).join(GAP).trimEnd()}\n`).join("");
}

/** Names and values below each other; a value that is undefined is left out. */
export function facts(rows: readonly (readonly [name: string, value: string | undefined])[]) {
  const shown = rows.filter(([, value]) => value !== undefined);
  const nameWidth = Math.max(0, ...shown.map(([name]) => name.length));
  const lines = shown.map(
    ([name, value]) => `${name.padEnd(nameWidth)}${GAP}${oneLine(value ?? "") || NOTHING}\n`,
  );
  return lines.join("");
}

/** A field of an answer, `size.bytes` for one inside another; undefined when it is not there. */
export function field(row: Json, path: string): Json {
  let found = row;
  for (const name of path.split(".")) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, name))
      return undefined;
    found = (found as Record<string, unknown>)[name];
  }
  return found;
}

export function textField(row: Json, path: string): string {
  const found = field(row, path);
  return typeof found === "string" ? found : "";
}

export function numberField(row: Json, path: string): number | undefined {
  const found = field(row, path);
  return typeof found === "number" ? found : undefined;
}

export function listField(row: Json, path: string): readonly Json[] {
  const found = field(row, path);
  return Array.isArray(found) ? found : [];
}

/** A label may hold anything; a terminal must not obey it. */
function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "\ufffd");
}

const width = (text: string): number => [...text].length;

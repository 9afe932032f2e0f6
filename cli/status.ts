/** `memward status --control URL`: the same question, asked of the admin API of a whole cluster. */
import { print } from "./command.ts";
import { type Connection, openApi, printJson } from "./connection.ts";
import { INCIDENT_COLUMNS } from "./incidents.ts";
import {
  type Column,
  field,
  type Json,
  listField,
  numberField,
  table,
  textField,
} from "./table.ts";
import { age, countForPeople, sizeForPeople } from "./values.ts";

const COLUMNS: readonly Column[] = [
  { title: "ROLE", cell: (row) => textField(row, "role") },
  { title: "NAME", cell: (row) => textField(row, "name") },
  { title: "READY", cell: (row) => (field(row, "ready") === true ? "yes" : "no") },
  { title: "STARTED", cell: (row) => age(textField(row, "startedAt")) },
  { title: "HOLDS", cell: holds },
  { title: "ADDRESSES", cell: (row) => listField(row, "addresses").join(" ") },
];

/** Prints what runs; the exit code is 0 when the API answers. Throws `Refusal`. */
export async function clusterStatus(options: Connection): Promise<number> {
  const { text, body } = await openApi(options).call({ method: "GET", path: "/v1/status" });
  if (options.json) printJson(text);
  else {
    const roles = [
      ...rowsOf(body, "proxies", "proxy"),
      ...rowsOf(body, "nodes", "backend"),
      // A monitor that is there does its work.
      ...rowsOf(body, "monitors", "monitor").map((row) => ({ ...(row as object), ready: true })),
    ];
    print(table(COLUMNS, roles));
    const incidents = listField(body, "incidents");
    if (incidents.length > 0) print(`\n${table(INCIDENT_COLUMNS, incidents)}`);
  }
  return 0;
}

const rowsOf = (body: Json, key: string, role: string): Json[] =>
  listField(body, key).map((row) => ({ ...(row as object), role }));

function holds(row: Json): string {
  if (textField(row, "role") === "monitor") {
    return field(row, "speaks") === true ? "speaks to people" : "watches";
  }
  const sessions = numberField(row, "sessions");
  if (sessions !== undefined) return `${countForPeople(sessions)} sessions`;
  const shards = numberField(row, "shards");
  const bytes = numberField(row, "bytes");
  if (shards === undefined || bytes === undefined) return "";
  return `${countForPeople(shards)} shards, ${sizeForPeople(bytes)}`;
}

/** `memward node …`: the backend nodes, and taking one out of service before it is stopped. */
import { z } from "zod";
import { clock, sleep } from "../core/runtime/clock.ts";
import { EXIT } from "../core/runtime/process.ts";
import { type Api, segment } from "./api.ts";
import { type Command, print } from "./command.ts";
import { apiCommand, printJson, show } from "./connection.ts";
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

const LOOK_MS = 200;
const DRAINED_MS_MAX = 60_000;

const COLUMNS: readonly Column[] = [
  { title: "NODE", cell: (row) => textField(row, "name") },
  { title: "ENGINE", cell: (row) => textField(row, "engine") },
  { title: "STATE", cell: stateOf },
  { title: "WEIGHT", cell: (row) => countForPeople(numberField(row, "weight") ?? 1), right: true },
  { title: "ZONE", cell: (row) => textField(row, "zone") },
  { title: "SHARDS", cell: (row) => countForPeople(shardCountOf(row)), right: true },
  { title: "SIZE", cell: (row) => sizeForPeople(numberField(row, "bytes") ?? 0), right: true },
  { title: "STARTED", cell: (row) => age(textField(row, "startedAt")) },
];

const shardCountOf = (row: Json): number => numberField(row, "shards") ?? 0;

function stateOf(row: Json): string {
  if (field(row, "draining") === true) return shardCountOf(row) === 0 ? "drained" : "draining";
  return field(row, "ready") === true ? "ready" : "starting";
}

const path = (node: string | undefined): string => `/v1/nodes/${segment(node ?? "")}`;

export const NODE_COMMANDS: readonly Command[] = [
  apiCommand({
    name: "node list",
    summary: "list the backend nodes that are alive",
    rows: {},
    run: (it) => show(it, "/v1/nodes", (body) => table(COLUMNS, listField(body, "nodes"))),
  }),
  apiCommand({
    name: "node drain",
    summary: "give the keys of a node to the others, for good or until undrain",
    words: "NODE",
    details: `Each of its keys is missed once: values do not move. When this command is done the node
holds nothing any more, and its process can be stopped. A node that is dead can be drained, too.
If it takes longer than a minute, it goes on without this command, whose exit code is 7.`,
    rows: {
      noWait: z.boolean().default(false).describe("do not wait until the node has no shards"),
    },
    run: async ({ api, options, words }) => {
      const body = { draining: true };
      const { text } = await api.call({ method: "PATCH", path: path(words[0]), body });
      const isDrained = options.noWait || (await hasNoShards(api, words[0] ?? ""));
      if (options.json) printJson(text);
      else print(`node ${words[0]} ${isDrained && !options.noWait ? "drained" : "draining"}\n`);
      return isDrained ? EXIT.done : EXIT.notApplied;
    },
  }),
  apiCommand({
    name: "node undrain",
    summary: "let a drained node have its share of the keys again",
    words: "NODE",
    rows: {},
    run: async ({ api, options, words }) => {
      const body = { draining: false };
      const { text } = await api.call({ method: "PATCH", path: path(words[0]), body });
      if (options.json) printJson(text);
      else print(`node ${words[0]} takes keys again\n`);
      return EXIT.done;
    },
  }),
];

/** True when a node that is alive has no shards left, or it is not alive; false after a minute. */
async function hasNoShards(api: Api, node: string): Promise<boolean> {
  const giveUpAtMs = clock.nowMs() + DRAINED_MS_MAX;
  while (clock.nowMs() < giveUpAtMs) {
    const { body } = await api.call({ method: "GET", path: "/v1/nodes" });
    const row = listField(body, "nodes").find((one) => textField(one, "name") === node);
    if (row === undefined || shardCountOf(row) === 0) return true;
    await sleep(LOOK_MS);
  }
  return false;
}

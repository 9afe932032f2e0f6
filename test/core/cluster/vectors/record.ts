/**
 * Records `nutcracker-ketama-murmur.json`: where a real nutcracker puts keys. Run by hand, with
 * nutcracker and memcached installed: `node test/core/cluster/vectors/record.ts`.
 */
import { writeFileSync } from "node:fs";
import { KETAMA_DIALECT } from "../../../../core/cluster/continuum.ts";
import { seededRandom } from "../../../../core/runtime/random.ts";
import { find, Running } from "../../../harness/processes.ts";
import { landings, makeKeys } from "../landings.ts";

const KEY_COUNT = 250;
const SETS = [
  ["node-1", "node-2"],
  ["node-1", "node-2", "node-3"],
  ["cache-a.example", "b", "node-10", "node-2", "zz"],
];

const file = new URL("nutcracker-ketama-murmur.json", import.meta.url);
const nutcracker = new Running("nutcracker", find("nutcracker") ?? "nutcracker", ["-V"]);
await nutcracker.exited;
const recordedWith = `${nutcracker.stdout}${nutcracker.stderr}`.match(/nutcracker-[\d.]+/)?.[0];

const keys = makeKeys(KEY_COUNT, seededRandom(1));
const sets = [];
for (const names of SETS) {
  const nodes = names.map((name) => ({ name, weight: 1 }));
  const owners = (await landings(nodes, keys)).map((name) => names.indexOf(name));
  sets.push({ nodes: names, owners: owners.join("") });
}
const vectors = {
  dialect: KETAMA_DIALECT,
  recordedWith,
  configuration: { hash: "murmur", distribution: "ketama" },
  keysHex: keys.map((key) => key.toString("hex")),
  sets,
};
writeFileSync(file, `${JSON.stringify(vectors, null, 2)}\n`);

/**
 * Promise: a script that was written for MemCachier's API works by changing the host. The script is
 * made of the examples of its documentation.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Memward, startMemward } from "../harness/memward.ts";
import { temporaryFolder } from "../harness/processes.ts";
import { memjs, run } from "./programs.ts";
import { describeWith } from "./suite.ts";

const SCRIPT = `
set -eu
api() { curl -sS -o body -w '%{http_code}' "$@" --user "$MEMCACHIER_USERNAME:$MEMCACHIER_PASSWORD"; }
caches="$HOST/api/v2/caches/$CACHE"

echo "info $(api "$caches/info") plan $(jq .plan body) credentials $(jq '.credentials | length' body)"
echo "create $(api -X POST "$caches/credentials")"
new=$(jq -r .sasl_username body)
echo "new $new $(jq -r .sasl_password body)" >&2
echo "update $(api -X PATCH "$caches/credentials/$new" \\
  -H 'Content-Type: application/json' \\
  -d '{"write_capability":true,"flush_capability":false,"api_capability":true}') $(jq -c . body)"
echo "promote $(api -X POST "$caches/credentials/primary/$new") $(jq .primary body)"
echo "list $(api "$caches/credentials") $(jq length body)"
echo "stats $(api "$caches/stats") hits $(jq .get_hits body) items $(jq .curr_items body)"
echo "flush $(api -X POST "$caches/flush")"
echo "stats $(api "$caches/stats") hits $(jq .get_hits body) items $(jq .curr_items body)"
echo "reset $(api -X POST "$caches/reset_stats")"
echo "stats $(api "$caches/stats") hits $(jq .get_hits body) limit $(jq .limit_maxbytes body)"
echo "alerts $(api "$caches/alerts") $(jq -r .message body | cut -c1-11)"
`;

describeWith(["curl", "jq", "sh"], "a script for MemCachier's API", () => {
  let memward: Memward;
  beforeAll(async () => {
    memward = await startMemward({ plain: false });
  }, 60_000);
  afterAll(() => memward.stop());

  test("runs against Memward, and its new credential works", async () => {
    const client = memjs(memward.servers, memward);
    await client.set("greeting", "hello", {});
    await client.get("greeting");
    const folder = temporaryFolder("memward-script");
    writeFileSync(join(folder, "script.sh"), SCRIPT);
    const ran = await run("sh", ["script.sh"], {
      cwd: folder,
      env: {
        HOST: memward.control,
        CACHE: "default",
        MEMCACHIER_USERNAME: memward.username,
        MEMCACHIER_PASSWORD: memward.password,
      },
    });
    const [, username = "", password = ""] = /^new (\S+) (\S+)$/m.exec(ran.stderr) ?? [];
    expect(ran.stdout.trim().split("\n"), ran.stderr).toEqual([
      "info 200 plan 104857600 credentials 1",
      "create 201",
      'update 200 {"write_capability":true,"flush_capability":false,"api_capability":true}',
      "promote 200 true",
      "list 200 2",
      "stats 200 hits 1 items 1",
      "flush 204",
      "stats 200 hits 1 items 0",
      "reset 204",
      "stats 200 hits 0 limit 104857600",
      "alerts 501 not offered",
    ]);
    expect((await client.get("greeting")).value).toBeNull();
    const other = memjs(memward.servers, { username, password });
    expect(await other.set("new", "credential", {})).toBe(true);
    for (const one of [client, other]) one.close();
  }, 30_000);
});

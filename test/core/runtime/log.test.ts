/** Logs: one JSON line per event, without secrets. */
import { expect, test } from "vitest";
import { createLog } from "../../../core/runtime/log.ts";

function lines(level: "info" | "debug" = "info") {
  const written: string[] = [];
  const log = createLog({ name: "proxy-1", level, to: { write: (line) => written.push(line) } });
  return { log, read: () => written.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

test("a line says when, who, how grave and what", () => {
  const { log, read } = lines();
  log.info({ cache: "c1" }, "ready");
  const [line] = read();
  expect(line).toMatchObject({ level: "info", name: "proxy-1", cache: "c1", msg: "ready" });
  expect(Date.parse(String(line?.["time"]))).toBeGreaterThan(0);
});

test("secrets are left out, one level down too", () => {
  const { log, read } = lines();
  log.info({ password: "p1", login: { username: "u", password: "p2", secret: "p3" } }, "login");
  expect(JSON.stringify(read())).not.toMatch(/p1|p2|p3/);
  expect(read()[0]).toMatchObject({ login: { username: "u" } });
});

test("what is below the level is not written", () => {
  const { log, read } = lines("info");
  log.debug("detail");
  expect(read()).toEqual([]);
});

/** One supervised process: started again when it dies, drained at the end, never trusted to answer. */
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { sleep } from "../../core/runtime/clock.ts";
import { createLog } from "../../core/runtime/log.ts";
import { seededRandom } from "../../core/runtime/random.ts";
import { Child } from "../../up/child.ts";

const children: Child[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill();
});

function start(options: object = {}) {
  const seen: { changes: (() => void)[]; refusals: string[]; log: string[] } = {
    changes: [],
    refusals: [],
    log: [],
  };
  const changed = () => {
    for (const change of seen.changes) change();
  };
  const child = new Child({
    role: "backend",
    program: { file: join(import.meta.dirname, "fixtures/role.mjs"), args: [], execArgv: [] },
    order: { type: "start", name: "node-1", dataDir: "/nowhere", logLevel: "silent", options },
    log: createLog({ name: "test", to: { write: (line) => seen.log.push(line) } }),
    random: seededRandom(1),
    changed,
    refused: (message) => {
      seen.refusals.push(message);
      changed();
    },
  });
  children.push(child);
  const until = (condition: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      const look = () => {
        if (condition()) resolve();
      };
      seen.changes.push(look);
      look();
    });
  child.start();
  return { child, seen, until };
}

describe("a running role", () => {
  test("is shown with its pid, addresses and readiness", async () => {
    const { child, until } = start();
    await until(() => child.view().ready);
    expect(child.view()).toEqual({
      role: "backend",
      name: "node-1",
      pid: expect.any(Number),
      addresses: ["127.0.0.1:1"],
      ready: true,
    });
  });

  test("gives its metrics", async () => {
    const { child, until } = start();
    await until(() => child.view().ready);
    expect((await child.scrape())?.[0]?.values[0]?.value).toBe(1);
    expect((await child.scrape())?.[0]?.values[0]?.value).toBe(2);
    expect(child.scrapesMissed).toBe(0);
  });

  test("that does not answer a scrape is left out and counted", async () => {
    const { child, until } = start({ mute: true });
    await until(() => child.view().ready);
    expect(await child.scrape()).toBeUndefined();
    expect(child.scrapesMissed).toBe(1);
  });

  test("drains when it is told to, and stays away", async () => {
    const { child, until } = start();
    await until(() => child.view().ready);
    expect(await child.drain(5_000)).toBe(true);
    expect([child.state, child.view().pid, child.startCount]).toEqual(["ended", null, 1]);
  });

  test("that does not drain in its time is killed, and that is told", async () => {
    const { child, until } = start({ stubborn: true });
    await until(() => child.view().ready);
    expect(await child.drain(10)).toBe(false);
    expect(child.state).toBe("ended");
  });
});

describe("a role that dies", () => {
  test("is started again, and the reason is counted and logged", async () => {
    const { child, seen, until } = start();
    await until(() => child.view().ready);
    process.kill(child.view().pid ?? 0, "SIGKILL");
    await until(() => child.startCount === 2 && child.view().ready);
    expect([...child.exits]).toEqual([["signalled", 1]]);
    const line = seen.log.map((text) => JSON.parse(text)).find(({ reason }) => reason);
    expect(line).toMatchObject({ reason: "signalled", signal: "SIGKILL", process: "node-1" });
  });

  test("at once and again waits longer each time", async () => {
    const { child, until } = start({ dieAtOnce: true });
    await until(() => child.failureCount >= 2);
    expect([...child.exits]).toEqual([["failed", 2]]);
  });

  test("is not started again once everything ends", async () => {
    const { child, until } = start({ dieAtOnce: true });
    await until(() => child.state === "waiting" && child.failureCount === 1);
    expect(await child.drain(1_000)).toBe(true);
    await sleep(400); // Longer than the first delay can be.
    expect([child.state, child.startCount]).toEqual(["ended", 1]);
  });

  test("a refusal is handed on in its words", async () => {
    const { seen, until } = start({ refuse: "the port is taken" });
    await until(() => seen.refusals.length > 0);
    expect(seen.refusals).toEqual(["the port is taken"]);
  });
});

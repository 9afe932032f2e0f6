/** The parts of the engine memcached that decide: figures, command lines, marks, cas, shrinking. */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { setCasApart } from "../../../backend/memcached/cas.ts";
import { Control, statsOf } from "../../../backend/memcached/control.ts";
import { findMarked, isStill, type Mark } from "../../../backend/memcached/ours.ts";
import { argumentsOf, megabytesOf } from "../../../backend/memcached/program.ts";
import { Serving } from "../../../backend/memcached/serving.ts";
import { Shrinking } from "../../../backend/memcached/shrinking.ts";
import { Tally } from "../../../backend/memcached/tally.ts";
import { Loop } from "../../../core/io/loop.ts";
import { seededRandom } from "../../../core/runtime/random.ts";
import { describeWith } from "../../e2e/suite.ts";
import { find } from "../../harness/processes.ts";

const MIB = 1 << 20;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "memward-parts-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("figures", () => {
  const stats = (hits: number, misses: number): Map<string, string> =>
    new Map([
      ["get_hits", String(hits)],
      ["get_misses", String(misses)],
      ["curr_items", "7"],
      ["curr_connections", "4"],
    ]);

  test("go on when a tenant resets its stats, and when the process is another", () => {
    const tally = new Tally();
    tally.read(stats(10, 2));
    tally.read(stats(12, 3));
    expect(tally.figures).toMatchObject({ hits: 12, misses: 3, items: 7, connections: 3 });
    tally.read(stats(1, 0));
    expect(tally.figures).toMatchObject({ hits: 13, misses: 3 });
    tally.restarted();
    expect(tally.figures).toMatchObject({ hits: 13, misses: 3, items: 0, connections: 0 });
    tally.read(stats(50, 50));
    expect(tally.figures).toMatchObject({ hits: 63, misses: 53 });
  });

  test("are zero before anything was said", () => {
    const { hits, items, connections, commands } = new Tally().figures;
    expect([hits, items, connections, commands]).toEqual([0, 0, 0, undefined]);
  });
});

describe("a memory limit", () => {
  test.each([
    [1, 8],
    [8 * MIB, 8],
    [8 * MIB + 1, 9],
    [100 * MIB, 100],
    [1024 ** 4, 1024 ** 2],
  ])("of %i bytes is -m %i", (bytes, megabytes) => {
    expect(megabytesOf(bytes)).toBe(megabytes);
  });
});

test("a command line names its endpoint and no other, and no login", () => {
  const options = { threads: 4, connectionsMax: 99 };
  const unix = argumentsOf(options, { path: "/a b/c.sock" });
  expect(unix.slice(0, 4)).toEqual(["-s", "/a b/c.sock", "-a", "0700"]);
  expect(unix).not.toContain("-l");
  const tcp = argumentsOf(options, { host: "10.0.0.1", port: 4711 });
  expect(tcp.slice(0, 4)).toEqual(["-l", "10.0.0.1", "-p", "4711"]);
  for (const args of [unix, tcp]) {
    expect(args.join(" ")).toContain("-U 0");
    expect(args.join(" ")).toContain("-t 4 -c 99 -I 1m");
  }
});

describeWith(["memcached"], "a mark", () => {
  const mark = (given: Partial<Mark> = {}): Mark => ({
    home: folder,
    node: "node-1",
    shard: "0123456789abcdef",
    startedAtMs: 1234,
    ...given,
  });
  const start = (worn: Mark): Serving => {
    const args = argumentsOf({ threads: 1, connectionsMax: 16 }, { path: join(folder, "s.sock") });
    return Serving.start(find("memcached") ?? "", worn, args);
  };

  test("is found by its directory and node, and only there", async () => {
    const serving = start(mark());
    const found = findMarked(folder);
    expect(found).toMatchObject([{ pid: serving.pid, mark: mark() }]);
    expect(found[0]?.args.slice(0, 2)).toEqual(["-s", join(folder, "s.sock")]);
    expect(findMarked(folder, "node-1")).toEqual(found);
    expect(findMarked(folder, "node-2")).toEqual([]);
    expect(findMarked(`${folder}/deeper`)).toEqual([]);
    await serving.kill();
    expect(findMarked(folder)).toEqual([]);
  });

  test("of another start is another process: it is taken for gone and never signalled", async () => {
    const serving = start(mark());
    expect(isStill(serving.pid, mark())).toBe(true);
    const other = { pid: serving.pid, mark: mark({ startedAtMs: 99 }), args: [] };
    const adopted = Serving.adopt(other);
    expect(adopted.isAlive).toBe(false);
    await adopted.kill();
    expect(await adopted.ended).toBe("ended while nobody watched");
    expect(serving.isAlive).toBe(true);
    await serving.end();
    expect(serving.isAlive).toBe(false);
  });

  test("of a program that is not there has ended at once, and says why", async () => {
    const serving = Serving.start(join(folder, "nothing"), mark(), []);
    expect(await serving.ended).toMatch(/^not started: .*ENOENT/);
  });
});

describe("cas uniques of a new process", () => {
  test.each([1, 2, 3])("begin at a random place (seed %i), and figures at zero", async (seed) => {
    const commands: string[] = [];
    const ask = async (command: string): Promise<string> => {
      commands.push(command);
      return "HD";
    };
    await setCasApart(ask, { random: seededRandom(seed) });
    const added = commands.join("\n").match(/^ma \S+ q\r?$/gm)?.length ?? 0;
    expect(added).toBe(Math.floor(seededRandom(seed).next() * 131_072));
    expect(commands.at(-1)).toBe("stats reset");
    expect(commands.at(-2)).toMatch(/^md /);
  });
});

describe("memory that is taken away", () => {
  /** A memcached with `pages`, of which `fixed` are the last of their class. */
  function fake({ pages, fixed }: { pages: number; fixed: number }) {
    let busy = 0;
    const ask = async (command: string): Promise<string> => {
      if (command === "stats slabs") return `STAT total_malloced ${pages * MIB}\r\nEND`;
      expect(command).toBe("slabs reassign -1 0");
      if (busy++ % 3 === 1) return "BUSY currently processing reassign request";
      if (pages === fixed) return "BADCLASS invalid src or dst class id";
      pages--;
      return "OK";
    };
    return { ask, pages: () => pages };
  }

  test("goes page by page until the limit is kept", async () => {
    const { ask, pages } = fake({ pages: 50, fixed: 3 });
    expect(await new Shrinking(20 * MIB, ask).run()).toEqual({ pagesMoved: 30, outcome: "done" });
    expect(pages()).toBe(20);
  });

  test("ends at the last page of each class", async () => {
    const { ask, pages } = fake({ pages: 50, fixed: 40 });
    const { pagesMoved, outcome } = await new Shrinking(20 * MIB, ask).run();
    expect({ pagesMoved, pages: pages() }).toEqual({ pagesMoved: 10, pages: 40 });
    expect(outcome).toMatch(/^BADCLASS/);
  });

  test("stops when it is told to, or nobody answers", async () => {
    const { ask, pages } = fake({ pages: 50, fixed: 3 });
    const stopped = new Shrinking(20 * MIB, ask);
    stopped.stop();
    expect(await stopped.run()).toEqual({ pagesMoved: 0, outcome: "stopped" });
    expect(pages()).toBe(50);
    const silent = new Shrinking(20 * MIB, () => Promise.reject(new Error("gone")));
    expect(await silent.run()).toEqual({ pagesMoved: 0, outcome: "gone" });
  });
});

describe("the agent's connection", () => {
  /** Answers each chunk that comes as `reply` says. */
  async function serve(reply: (socket: Socket, text: string) => void) {
    const path = join(folder, "control.sock");
    const server = createServer((socket) => {
      socket.on("data", (chunk) => reply(socket, chunk.toString()));
      socket.on("error", () => {});
    });
    server.listen(path);
    await once(server, "listening");
    return { control: new Control(new Loop({ slabCount: 64 }), { path }), server };
  }

  test("answers in order, however the bytes come", async () => {
    const whole = "STAT a 1\r\nSTAT b x y\r\nEND\r\nVERSION 1\r\nEND\r\nERROR\r\n";
    const { control, server } = await serve(async (socket) => {
      for (const byte of whole) {
        socket.write(byte);
        await new Promise((resolve) => setImmediate(resolve));
      }
    });
    const replies = await Promise.all([
      control.ask("stats", "END", 5_000),
      control.ask("version", "line", 5_000),
      control.ask("stats items", "END", 5_000),
      control.ask("stats nothing", "END", 5_000),
    ]);
    expect(replies).toEqual(["STAT a 1\r\nSTAT b x y\r\nEND", "VERSION 1", "END", "ERROR"]);
    expect([...statsOf(replies[0])]).toEqual([
      ["a", "1"],
      ["b", "x y"],
    ]);
    control.close();
    server.close();
  });

  test("is given up when a reply is late, for the next would be taken for it", async () => {
    const { control, server } = await serve(() => {});
    const first = control.ask("version", "line", 20);
    const second = control.ask("version", "line", 5_000);
    await expect(first).rejects.toThrow("nothing said for 20 ms");
    await expect(second).rejects.toThrow("nothing said for 20 ms");
    expect(control.isClosed).toBe(true);
    await expect(control.ask("version", "line", 20)).rejects.toThrow("no connection");
    server.close();
  });

  test("does not keep what has no end", async () => {
    const { control, server } = await serve((socket) => socket.write("x".repeat(2 * MIB)));
    await expect(control.ask("stats", "END", 5_000)).rejects.toThrow("reply too large");
    server.close();
  });

  test("says why it could not be made", async () => {
    const control = new Control(new Loop({ slabCount: 64 }), { path: join(folder, "none.sock") });
    await expect(control.ask("version", "line", 5_000)).rejects.toThrow("ENOENT");
  });
});

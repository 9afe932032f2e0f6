/**
 * Listening, connecting and their failures, which must look the same in both layers; and what
 * becomes of the loop and its descriptors when nobody wants them any more.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { Connection } from "../../../core/io/connection.ts";
import { Loop } from "../../../core/io/loop.ts";
import type { Endpoint, LayerName, Listening } from "../../../core/io/wire.ts";
import { collectGarbage } from "../../../core/runtime/memory.ts";
import { Collector, hasLayer, quiet, until } from "./pair.ts";

const LAYERS: readonly LayerName[] = ["net", "native"];
const HOST = "127.0.0.1";
const ANY = { host: HOST, port: 0 };

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const clean of cleanups.splice(0).reverse()) clean();
});

/** A server of ours that keeps what it accepts. */
async function serve(
  loop: Loop,
  { at = ANY, connectionsMax = 1_000, reusePort = false, backlog = 1_024 }: ServeOptions = {},
) {
  const served = { connections: [] as Connection[], events: [] as string[], dropped: 0 };
  const listening: Listening = await loop.listen(
    at,
    { backlog, connectionsMax, reusePort },
    {
      accepted: (attach) => {
        const receiver = new Collector();
        receiver.connection = attach(receiver);
        receiver.take = (bytes, from, to) => {
          receiver.connection?.append(bytes, from, to - from);
          return to;
        };
        served.connections.push(receiver.connection);
      },
      dropped: () => served.dropped++,
    },
  );
  cleanups.push(() => {
    listening.close();
    for (const connection of served.connections) connection.destroy();
  });
  const port = Number(listening.address.split(":").at(-1));
  return Object.assign(served, { listening, port });
}
type ServeOptions = {
  at?: Endpoint;
  connectionsMax?: number;
  reusePort?: boolean;
  backlog?: number;
};

function dial(port: number, host = HOST): Socket {
  const socket = connect({ port, host });
  socket.on("error", () => socket.destroy());
  cleanups.push(() => socket.destroy());
  return socket;
}

function connectTo(loop: Loop, endpoint: Endpoint): { events: string[]; connection: Connection } {
  const receiver = new Collector();
  const opened = () => receiver.events.push("opened");
  const connection = loop.connect(endpoint, Object.assign(receiver, { opened }));
  cleanups.push(() => connection.destroy());
  return { events: receiver.events, connection };
}

const folder = (): string => {
  const path = mkdtempSync(join(tmpdir(), "memward-io-"));
  cleanups.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
};

for (const io of LAYERS) {
  describe.skipIf(!hasLayer(io))(`a listener of the layer ${io}`, () => {
    test("echoes to hundreds of connections at once", async () => {
      const { port, connections } = await serve(new Loop({ io, slabCount: 64 }));
      const sockets = Array.from({ length: 300 }, () => dial(port));
      const echoes = sockets.map(async (socket, index) => {
        const text = `${index} `.repeat(index + 1);
        socket.write(text);
        let heard = "";
        for await (const chunk of socket) {
          heard += String(chunk);
          if (heard.length === text.length) break;
        }
        return heard === text;
      });
      expect(await Promise.all(echoes)).not.toContain(false);
      expect(connections).toHaveLength(sockets.length);
    });

    test("knows the address of the other side, and its own", async () => {
      const served = await serve(new Loop({ io }));
      expect(served.listening.address).toMatch(/^127\.0\.0\.1:\d+$/);
      dial(served.port);
      await until("it is accepted", () => served.connections.length === 1);
      expect(served.connections[0]?.remoteAddress).toBe(HOST);
    });

    test("listens on IPv6, and on both by the name of this machine", async () => {
      const loop = new Loop({ io });
      const six = await serve(loop, { at: { host: "::1", port: 0 } });
      expect(six.listening.address).toMatch(/^\[::1\]:\d+$/);
      dial(six.port, "::1");
      await until("it is accepted", () => six.connections.length === 1);
      expect(six.connections[0]?.remoteAddress).toBe("::1");
      const named = await serve(loop, { at: { host: "localhost", port: 0 } });
      dial(named.port, "localhost");
      await until("it is accepted", () => named.connections.length === 1);
    });

    test("has a unix socket while it listens", async () => {
      const path = join(folder(), "a.sock");
      const loop = new Loop({ io });
      const served = await serve(loop, { at: { path } });
      expect(served.listening.address).toBe(`unix:${path}`);
      const { events, connection } = connectTo(loop, { path });
      await until("it is connected", () => events.includes("opened"));
      expect(connection.remoteAddress).toBe("");
      served.listening.close();
      served.listening.close();
      await until("the file is gone", () => !existsSync(path));
    });

    test("closes at once what is above its limit, and takes the next when there is room", async () => {
      const served = await serve(new Loop({ io }), { connectionsMax: 2 });
      const [first] = [dial(served.port), dial(served.port)];
      await until("two are accepted", () => served.connections.length === 2);
      const third = dial(served.port);
      await once(third.resume(), "close");
      expect(served.dropped).toBe(1);
      first?.destroy();
      served.connections[0]?.destroy();
      await quiet();
      dial(served.port);
      await until("one more is accepted", () => served.connections.length === 3);
    });

    test("shares its port with others that want that, and with nobody else", async () => {
      const first = await serve(new Loop({ io }), { reusePort: true });
      const at = { host: HOST, port: first.port };
      const second = await serve(new Loop({ io }), { at, reusePort: true });
      expect(second.port).toBe(first.port);
      await expect(serve(new Loop({ io }), { at })).rejects.toMatchObject({
        code: "EADDRINUSE",
        syscall: "listen",
        address: HOST,
        port: first.port,
      });
    });

    test.each([
      ["an address of nobody here", { host: "203.0.113.1", port: 0 }, "EADDRNOTAVAIL"],
      ["a folder that is not there", { path: "/nowhere/at/all.sock" }, /ENOENT|EACCES/],
    ])("cannot have %s", async (_, at, code) => {
      const refused = serve(new Loop({ io }), { at });
      await expect(refused).rejects.toThrow(code);
    });
  });

  describe.skipIf(!hasLayer(io))(`a connection made by the layer ${io}`, () => {
    test.each([
      ["nobody listens", async () => ({ host: HOST, port: await closedPort() }), "ECONNREFUSED"],
      ["there is no socket", async () => ({ path: join(folder(), "no.sock") }), "ENOENT"],
    ])("is closed once, with the reason, where %s", async (_, endpoint, reason) => {
      const { events } = connectTo(new Loop({ io }), await endpoint());
      expect(events).toEqual([]);
      await until("it is closed", () => events.length > 0);
      await quiet();
      expect(events).toEqual([`closed ${reason}`]);
    });

    test("may be given up before it is there", async () => {
      const loop = new Loop({ io });
      const { port } = await serve(loop);
      const { events, connection } = connectTo(loop, { host: HOST, port });
      connection.destroy();
      await quiet();
      expect(events).toEqual(["closed destroyed"]);
    });

    test("finds a host by its name", async () => {
      const loop = new Loop({ io });
      const { port } = await serve(loop);
      const { events } = connectTo(loop, { host: "localhost", port });
      await until("it is connected", () => events.length > 0);
      expect(events).toEqual(["opened"]);
    });

    test("reaches a host where it is said to be from here", async () => {
      const { port } = await serve(new Loop({ io }));
      const loop = new Loop({ io, hosts: { "node-1.elsewhere": HOST } });
      const { events } = connectTo(loop, { host: "node-1.elsewhere", port });
      await until("it is connected", () => events.length > 0);
      expect(events).toEqual(["opened"]);
    });

    test("sends what was appended before it was there", async () => {
      const loop = new Loop({ io });
      const server = createServer((socket) => void socket.pipe(socket));
      server.listen(0, HOST);
      await once(server, "listening");
      cleanups.push(() => server.close());
      const { port } = server.address() as { port: number };
      const receiver = new Collector();
      const connection = loop.connect(
        { host: HOST, port },
        Object.assign(receiver, { opened: () => {} }),
      );
      const bytes = Buffer.alloc(300_000, "abcdefg");
      connection.append(bytes, 0, bytes.length);
      await until("it came back", () => receiver.bytes.length === bytes.length);
      expect(receiver.bytes.equals(bytes)).toBe(true);
      connection.destroy();
    });
  });

  describe.skipIf(!hasLayer(io))(`a process with the layer ${io}`, () => {
    test.each([
      ["ends by itself when its connections are closed", "end"],
      ["ends when it is told to, with connections open", "exit"],
      ["ends a thread that has connections open", "terminate"],
      ["ends after a thread that closed its connections", "thread"],
    ])("%s", async (_, fate) => {
      expect(await outcome([join(import.meta.dirname, "ending.ts"), io, fate])).toBe("0 served");
    });

    test.runIf(process.platform === "linux")(
      "that has no descriptors left refuses, and serves again when it has",
      async () => {
        const program = join(import.meta.dirname, "ending.ts");
        const limited = `ulimit -n 64 && exec "$0" "$@"`;
        const args = ["-c", limited, process.execPath, program, io, "exhaust"];
        expect(await outcome(args, "/bin/sh")).toBe("0 refused, served");
      },
    );
  });
}

describe.skipIf(!hasLayer("native"))("the native layer", () => {
  test("gives its descriptors back when a loop is wanted no more", async () => {
    const openBefore = openFileCount();
    await openAndForget(20);
    expect(openFileCount()).toBeGreaterThanOrEqual(openBefore);
    await until("the descriptors are back", () => {
      collectGarbage();
      return openFileCount() <= openBefore;
    });
  });

  test("tells nothing to who took the place of a connection in the same turn", async () => {
    const loop = new Loop({ io: "native" });
    const { port } = await serve(loop);
    // All of them hear something in one turn; the first to hear closes the rest and dials anew.
    const old = Array.from({ length: 20 }, () => new Collector());
    const fresh: Collector[] = [];
    const dialled = old.map((receiver) => {
      const opened = () => {};
      const connection = loop.connect({ host: HOST, port }, Object.assign(receiver, { opened }));
      receiver.connection = connection;
      receiver.take = (_bytes, _from, to) => {
        receiver.events.push("heard");
        for (const other of dialled) if (other !== connection) other.destroy();
        if (fresh.length === 0) {
          for (let count = 0; count < 20; count++) {
            const replacement = Object.assign(new Collector(), { opened });
            fresh.push(replacement);
            const next = loop.connect({ host: HOST, port }, replacement);
            cleanups.push(() => next.destroy());
          }
        }
        return to;
      };
      cleanups.push(() => connection.destroy());
      return connection;
    });
    await quiet();
    for (const connection of dialled) connection.append(Buffer.from("x"), 0, 1);
    await until("one heard", () => fresh.length > 0);
    await quiet();
    expect(old.filter(({ events }) => events.includes("heard"))).toHaveLength(1);
    expect(fresh.flatMap(({ events, taken }) => [...events, ...taken])).toEqual([]);
  });
});

const openFileCount = (): number => readdirSync("/proc/self/fd").length;

async function openAndForget(count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    const loop = new Loop({ io: "native", slabCount: 1 });
    const listening = await loop.listen(ANY, { backlog: 1 }, { accepted: () => {} });
    listening.close();
  }
}

async function closedPort(): Promise<number> {
  const server = createServer().listen(0, HOST);
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

/** The exit code and what was printed. */
async function outcome(args: readonly string[], program = process.execPath): Promise<string> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  let printed = "";
  child.stdout.on("data", (chunk) => {
    printed += String(chunk);
  });
  const [code, signal] = await once(child, "close");
  return `${signal ?? code} ${printed.trim()}`;
}

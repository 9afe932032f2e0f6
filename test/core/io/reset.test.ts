/** Connections that are given up with what they had to deliver. */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { Loop } from "../../../core/io/loop.ts";
import { Collector, until } from "./pair.ts";

async function connected(): Promise<{
  near: ReturnType<Loop["connect"]>;
  far: Socket;
  end(): void;
}> {
  const loop = new Loop({ slabCount: 16 });
  const server = createServer({ pauseOnConnect: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const bound = server.address();
  const port = typeof bound === "string" ? 0 : (bound?.port ?? 0);
  const receiver = Object.assign(new Collector(), { opened: () => {} });
  const near = loop.connect({ host: "127.0.0.1", port }, receiver);
  const [far] = (await once(server, "connection")) as [Socket];
  return { near, far, end: () => void server.close() };
}

const closed = (far: Socket): Promise<unknown> =>
  new Promise((resolve) => far.once("close", resolve));

describe("a connection with output on its way", () => {
  test("that is reset takes it back: the other side meets an error, not the end", async () => {
    const { near, far, end } = await connected();
    const piece = Buffer.alloc(1 << 20);
    for (let i = 0; i < 16; i++) near.adopt(piece);
    await until("the kernel is full", () => near.writtenSize > 0);
    near.reset();
    const errors: string[] = [];
    let size = 0;
    far.on("error", (error: NodeJS.ErrnoException) => errors.push(error.code ?? ""));
    far.on("data", (bytes: Buffer) => {
      size += bytes.length;
    });
    far.resume();
    await closed(far);
    expect(errors).toEqual(["ECONNRESET"]);
    expect(size).toBeLessThan(16 * piece.length);
    end();
  });

  test("that has nothing to take back may be reset as well", async () => {
    const { near, far, end } = await connected();
    near.reset();
    near.reset();
    far.on("error", () => {});
    far.resume();
    await closed(far);
    expect(near.isOpen).toBe(false);
    end();
  });
});

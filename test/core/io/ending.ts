/**
 * A program for listening.test.ts: serves itself over one layer, then ends in one of several ways.
 *
 *   node ending.ts net|native end|exit|terminate|thread|exhaust
 */
import { closeSync, openSync } from "node:fs";
import { connect } from "node:net";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { Loop } from "../../../core/io/loop.ts";
import type { LayerName } from "../../../core/io/wire.ts";

type Fate = "end" | "exit" | "terminate" | "thread" | "exhaust";
const [io, fate] = (isMainThread ? process.argv.slice(2) : workerData) as [LayerName, Fate];

async function serve(): Promise<{ port: number; close(): void }> {
  const loop = new Loop({ io, slabCount: 8 });
  const closing: (() => void)[] = [];
  const listening = await loop.listen(
    { host: "127.0.0.1", port: 0 },
    { backlog: 64 },
    {
      accepted: (attach) => {
        const connection = attach({
          received: (bytes, from, to) => {
            connection.append(bytes, from, to - from);
            return to;
          },
          drained: () => {},
          ended: () => connection.end(),
          closed: () => {},
        });
        closing.push(() => connection.destroy());
      },
    },
  );
  return {
    port: Number(listening.address.split(":")[1]),
    close: () => {
      listening.close();
      for (const each of closing) each();
    },
  };
}

/** What an echo answers; "refused" when the connection is closed instead. */
function echo(port: number): Promise<"served" | "refused"> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" }, () => socket.write("x"));
    socket.once("data", () => resolve("served"));
    socket.on("error", () => {});
    socket.once("close", () => resolve("refused"));
    if (fate !== "exhaust") socket.unref();
  });
}

/** Every descriptor is in use but one, which the client takes: none is left to accept with. */
async function exhaust(): Promise<string> {
  const { port } = await serve();
  await echo(port);
  const held: number[] = [];
  for (;;) {
    try {
      held.push(openSync("/dev/null", "r"));
    } catch {
      break;
    }
  }
  closeSync(held.pop() ?? -1);
  const first = await echo(port);
  for (const fd of held) closeSync(fd);
  return `${first}, ${await echo(port)}`;
}

async function main(): Promise<void> {
  if (isMainThread && (fate === "terminate" || fate === "thread")) {
    const worker = new Worker(new URL(import.meta.url), { workerData: [io, fate] });
    const said = await new Promise((resolve) => worker.once("message", resolve));
    if (fate === "terminate") await worker.terminate();
    else await new Promise((resolve) => worker.once("exit", resolve));
    console.log(said);
    return;
  }
  if (fate === "exhaust") {
    console.log(await exhaust());
    process.exit(0);
  }
  const server = await serve();
  const said = await echo(server.port);
  if (isMainThread) console.log(said);
  else parentPort?.postMessage(said);
  if (fate === "exit") process.exit(0);
  if (fate === "end" || fate === "thread") server.close();
}

await main();

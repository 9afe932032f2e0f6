/** What a shard counts of itself, asked on a connection of its own: never on the way of a client. */
import { createConnection } from "node:net";
import { parseAddress } from "../runtime/config.ts";

const ANSWER_MS_MAX = 1_000;
const ANSWER_SIZE_MAX = 64 * 1024;

/** The figures behind `stats`; undefined when the shard does not answer in time, or nonsense. */
export function askStats(
  address: string,
  limitMs: number = ANSWER_MS_MAX,
): Promise<ReadonlyMap<string, number> | undefined> {
  const at = address.startsWith("unix:")
    ? { path: address.slice("unix:".length) }
    : parseAddress(address);
  if (at === undefined) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    let text = "";
    const socket = createConnection(at);
    const end = (answer: ReadonlyMap<string, number> | undefined): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(limitMs, () => end(undefined));
    socket.once("error", () => end(undefined));
    socket.once("close", () => end(undefined));
    socket.once("connect", () => socket.write("stats\r\n"));
    socket.setEncoding("latin1");
    socket.on("data", (chunk) => {
      text += chunk;
      if (/(^|\r\n)END\r\n$/.test(text)) end(readStats(text));
      else if (text.length > ANSWER_SIZE_MAX) end(undefined);
    });
  });
}

function readStats(text: string): ReadonlyMap<string, number> {
  const lines = text.matchAll(/^STAT (\S+) (\d{1,15})\r$/gm);
  return new Map([...lines].map(([, name = "", value]) => [name, Number(value)]));
}

/**
 * Free TCP ports for the processes a test starts. They lie below the kernel's ephemeral range
 * (32768 and up), so that no outgoing connection of another test can take one between the moment
 * we look and the moment the process listens. Worker processes start at different places.
 */
import { createServer } from "node:net";

const PORT_MIN = 20_000;
const PORT_COUNT = 12_000;
const TRY_COUNT_MAX = 500;

let cursor = (process.pid * 97) % PORT_COUNT;

/** A port of 127.0.0.1 that nobody listens on; the same one is not handed out twice. */
export async function freePort(): Promise<number> {
  for (let tryCount = 0; tryCount < TRY_COUNT_MAX; tryCount++) {
    const port = PORT_MIN + cursor;
    cursor = (cursor + 1) % PORT_COUNT;
    if (await canListen(port)) return port;
  }
  throw new Error(`no free port among ${TRY_COUNT_MAX} tried`);
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1" }, () => server.close(() => resolve(true)));
  });
}

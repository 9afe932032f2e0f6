/**
 * Looks at each port before anything is started, so that a taken one is refused in one sentence
 * that names the option, instead of by a role dying later. Port 0 becomes a real port here and
 * stays the same when its proxy is started again.
 */
import { createServer } from "node:net";
import { formatAddress, parseAddress } from "../core/runtime/config.ts";
import { listenProblem, Refusal } from "../core/runtime/process.ts";

export interface Wanted {
  /** The option that asked for it, for the refusal. */
  what: string;
  addresses: readonly string[];
}

/** The same lists with every port decided; throws a Refusal naming the first that is taken. */
export async function decidePorts<const W extends readonly Wanted[]>(
  wanted: W,
): Promise<{ [I in keyof W]: string[] }> {
  const open: ReturnType<typeof createServer>[] = [];
  try {
    const decided: string[][] = [];
    for (const { what, addresses } of wanted) {
      const list: string[] = [];
      // All stay open until the last is decided, so none is given away twice.
      for (const address of addresses) list.push(await tryListen({ what, address }, open));
      decided.push(list);
    }
    return decided as { [I in keyof W]: string[] };
  } finally {
    await Promise.all(open.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

function tryListen(
  one: { what: string; address: string },
  open: ReturnType<typeof createServer>[],
): Promise<string> {
  const at = parseAddress(one.address);
  if (at === undefined) throw new Refusal(`${one.what}: ${one.address} is not HOST:PORT`);
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", (error) => reject(new Refusal(listenProblem(one, error))));
    server.listen({ host: at.host, port: at.port, exclusive: true }, () => {
      open.push(server);
      const bound = server.address();
      const port = typeof bound === "object" && bound !== null ? bound.port : at.port;
      resolve(formatAddress({ host: at.host, port }));
    });
  });
}

/**
 * A network between proxies and nodes whose links can be cut, slowed and falsified one by one: each
 * pair of a proxy and a node has an address of its own (127.x.<proxy>.<node>) where the relay, a
 * process of its own, listens on the ports of that node's shards. Proxies are sent there by
 * their option `nodeHosts`, nutcracker by its list of servers; nodes know nothing of it.
 */
import { type ChildProcess, fork } from "node:child_process";
import { favour } from "./processes.ts";

/** What can be wrong with a link. Without any of them it is healthy. */
export const LINK_FAULTS = [
  "refused",
  "black-holed",
  "requests lost",
  "replies lost",
  "reset",
  "+20 ms",
  "+200 ms",
  "12 % slow",
  "jitter",
  "trickled",
  "truncated reply",
  "corrupted reply",
] as const;
export type LinkFault = (typeof LINK_FAULTS)[number];

/** `proxy` and `node` count from 1. */
export type LinkOf = { proxy: number; node: number };

type Order =
  | { do: "carry"; link: string; at: string; port: number; target: string }
  | { do: "forget"; link: string; port: number }
  | { do: "make"; link: string; fault: LinkFault; seed: number }
  | { do: "heal"; link: string };
export type RelayOrder = Order & { id: number };
type Answer = { id: number; problem?: string };

/** All of 127/8 is this machine; runs at the same time keep apart. */
const NETWORK = `127.${64 + (process.pid % 128)}`;
/** Where a node listens. */
export const hostOfNode = (node: number): string => `${NETWORK}.0.${node}`;
/** Where a proxy reaches it. */
export const hostOnLink = ({ proxy, node }: LinkOf): string => `${NETWORK}.${proxy}.${node}`;

export class Network {
  readonly #relay: ChildProcess;
  readonly #asked = new Map<number, (answer: Answer) => void>();
  #askedCount = 0;

  constructor() {
    this.#relay = fork(new URL("./relay.ts", import.meta.url), {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      execArgv: ["--disable-warning=ExperimentalWarning"],
    });
    favour(this.#relay.pid ?? 0);
    this.#relay.on("message", (answer: Answer) => {
      this.#asked.get(answer.id)?.(answer);
      this.#asked.delete(answer.id);
    });
    this.#relay.on("exit", (code) => {
      for (const [id, tell] of this.#asked) tell({ id, problem: `the relay ended with ${code}` });
      this.#asked.clear();
    });
  }

  /** `nodeHosts` of a proxy that reaches all nodes over this network. */
  nodeHosts(proxy: number, nodeCount: number): Record<string, string> {
    const nodes = Array.from({ length: nodeCount }, (_, index) => index + 1);
    return Object.fromEntries(nodes.map((node) => [hostOfNode(node), hostOnLink({ proxy, node })]));
  }

  /** From now on the link carries connections to this port of its node. */
  carry(link: LinkOf, port: number): Promise<void> {
    const target = hostOfNode(link.node);
    return this.#order({ do: "carry", link: nameOf(link), at: hostOnLink(link), port, target });
  }

  forget(link: LinkOf, port: number): Promise<void> {
    return this.#order({ do: "forget", link: nameOf(link), port });
  }

  /** The seed decides which bytes are hit where the fault does not hit all. */
  make(link: LinkOf, fault: LinkFault, seed: number): Promise<void> {
    return this.#order({ do: "make", link: nameOf(link), fault, seed });
  }

  heal(link: LinkOf): Promise<void> {
    return this.#order({ do: "heal", link: nameOf(link) });
  }

  stop(): void {
    if (this.#relay.connected) this.#relay.disconnect();
  }

  async #order(order: Order): Promise<void> {
    const id = ++this.#askedCount;
    const answer = await new Promise<Answer>((resolve) => {
      this.#asked.set(id, resolve);
      this.#relay.send({ ...order, id });
    });
    if (answer.problem !== undefined) throw new Error(`${order.do}: ${answer.problem}`);
  }
}

const nameOf = ({ proxy, node }: LinkOf): string => `${proxy}-${node}`;

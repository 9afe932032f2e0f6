/** Starts and orders the other processes of the contract test; see `child.ts`. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import type { Orders } from "./child.ts";

export interface ChildOptions {
  /** URL of a module that exports `open(argument): Promise<ClusterState>`. */
  readonly module: string;
  readonly argument: string;
}

type Message = { number?: number; answer?: unknown; failure?: string; lost?: true; ready?: true };
type Waiting = { resolve(answer: unknown): void; reject(error: Error): void };

export class Child {
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly #exited: Promise<unknown>;
  #number = 0;
  /** Resolves when the lease that it holds ended without its doing. */
  readonly lost: Promise<void>;

  private constructor(child: ChildProcess) {
    this.#process = child;
    this.#exited = once(child, "exit").then(() => {
      for (const { reject } of this.#waiting.values()) reject(new Error("the child has ended"));
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.lost = promise;
    child.on("message", ({ number = -1, answer, failure, lost }: Message) => {
      if (lost) resolve();
      const waiting = this.#waiting.get(number);
      this.#waiting.delete(number);
      if (failure === undefined) waiting?.resolve(answer);
      else waiting?.reject(new Error(failure));
    });
  }

  static async start({ module, argument }: ChildOptions): Promise<Child> {
    // Not with the flags that the test runner gave to its own worker.
    const script = new URL("child.ts", import.meta.url);
    const child = fork(script, [module, argument], { execArgv: [], serialization: "advanced" });
    const [first] = await Promise.race([once(child, "message"), once(child, "exit")]);
    if (!(first as Message)?.ready) throw new Error("the child could not open the state");
    return new Child(child);
  }

  ask<O extends keyof Orders>(
    order: O,
    ...[details]: Parameters<Orders[O]>
  ): Promise<Awaited<ReturnType<Orders[O]>>> {
    const number = ++this.#number;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(number, { resolve, reject });
    this.#process.send({ number, order, details });
    return promise as Promise<Awaited<ReturnType<Orders[O]>>>;
  }

  async signal(signal: NodeJS.Signals): Promise<void> {
    this.#process.kill(signal);
  }

  async kill(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#exited;
  }
}

/** A TCP door before a server: open, shut (connections are reset), or stuck (nothing moves). */
import { connect, createServer, type Server, type Socket } from "node:net";
import { endpoint } from "./processes.ts";

export class Gate {
  readonly #server: Server;
  readonly #pairs = new Set<[near: Socket, far: Socket]>();
  #isStuck = false;

  private constructor(target: string) {
    this.#server = createServer((near) => {
      const far = connect(endpoint(target));
      const pair: [Socket, Socket] = [near, far];
      this.#pairs.add(pair);
      for (const socket of pair) {
        socket.on("error", () => {});
        socket.on("close", () => {
          near.destroy();
          far.destroy();
          this.#pairs.delete(pair);
        });
      }
      if (this.#isStuck) return;
      near.pipe(far);
      far.pipe(near);
    });
  }

  static async open(target: string): Promise<Gate> {
    const gate = new Gate(target);
    await gate.#listen(0);
    return gate;
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  get #port(): number {
    const bound = this.#server.address();
    return bound === null || typeof bound === "string" ? this.#portBefore : bound.port;
  }
  #portBefore = 0;

  async shut(): Promise<void> {
    this.#portBefore = this.#port;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const [near] of this.#pairs) near.resetAndDestroy();
    await closed;
  }

  async openAgain(): Promise<void> {
    this.#isStuck = false;
    await this.#listen(this.#portBefore);
  }

  stick(): void {
    this.#isStuck = true;
    for (const [near, far] of this.#pairs) {
      near.unpipe(far);
      far.unpipe(near);
      near.pause();
      far.pause();
    }
  }

  /** What is stuck stays stuck; new connections go through. */
  unstick(): void {
    this.#isStuck = false;
  }

  #listen(port: number): Promise<void> {
    return new Promise((resolve) => this.#server.listen(port, "127.0.0.1", () => resolve()));
  }
}

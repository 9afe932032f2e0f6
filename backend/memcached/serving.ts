/**
 * One memcached process, started by us or found and taken over: lives until it ends by itself or
 * is ended. It is a session of its own, so that a signal to the agent's whole group (an interrupt
 * from a terminal) does not end it before those who still talk to it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { sleep } from "../../core/runtime/clock.ts";
import { asStarted } from "../../core/runtime/nice.ts";
import { isStill, type Mark, type Marked, markArguments } from "./ours.ts";

/**
 * Told to end, memcached stops serving at once and then waits 0.7 s for its background threads,
 * which have nothing to save: that is not waited for.
 */
const END_MS_MAX = 300;
const LOOK_INTERVAL_MS = 10;
/** Of what it says on standard error, the end is kept for whoever asks why it ended. */
const COMPLAINT_SIZE_MAX = 200;

export class Serving {
  readonly pid: number;
  readonly mark: Mark;
  /** Resolves, with how it ended in words, when it is gone. */
  readonly ended: Promise<string>;
  /** Undefined if another agent started it. */
  #child: ChildProcess | undefined;
  #isGone = false;
  #tellEnd: (how: string) => void = () => {};

  private constructor(pid: number, mark: Mark) {
    this.pid = pid;
    this.mark = mark;
    this.ended = new Promise((resolve) => {
      this.#tellEnd = (how) => {
        this.#isGone = true;
        resolve(how);
      };
    });
  }

  /** Starts one. A program that cannot be started has ended at once. */
  static start(program: string, mark: Mark, args: readonly string[]): Serving {
    const child = spawn(...asStarted(program, [...markArguments(mark), ...args]), {
      cwd: "/",
      env: {},
      detached: true,
      stdio: ["ignore", "ignore", "pipe"],
    });
    const serving = new Serving(child.pid ?? 0, mark);
    serving.#follow(child);
    return serving;
  }

  /** Takes over one that another agent has started. */
  static adopt({ pid, mark }: Marked): Serving {
    return new Serving(pid, mark);
  }

  #follow(child: ChildProcess): void {
    this.#child = child;
    let complaint = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      complaint = (complaint + chunk.toString("utf8")).slice(-COMPLAINT_SIZE_MAX);
    });
    child.once("error", (error) => this.#tellEnd(`not started: ${error.message}`));
    child.once("close", (code, signal) => {
      const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
      const words = complaint.trim().replace(/\s+/g, " ");
      this.#tellEnd(words === "" ? how : `${how}: ${words}`);
    });
  }

  /** Looks whether it is gone; nobody tells us the end of a process that is not our child. */
  look(): void {
    if (!this.#isGone && !this.isAlive) this.#tellEnd("ended while nobody watched");
  }

  get isAlive(): boolean {
    return !this.#isGone && (this.#child !== undefined || isStill(this.pid, this.mark));
  }

  /** Asks it to end, and insists after a while. */
  async end(): Promise<void> {
    this.#signal("SIGTERM");
    if (!(await this.#isGoneWithin(END_MS_MAX))) await this.kill();
  }

  /** Ends it now, whatever it does; resolves when it is gone. */
  async kill(): Promise<void> {
    this.#signal("SIGKILL");
    await this.#isGoneWithin(Number.POSITIVE_INFINITY);
  }

  async #isGoneWithin(limitMs: number): Promise<boolean> {
    for (let waitedMs = 0; !this.#isGone && waitedMs < limitMs; waitedMs += LOOK_INTERVAL_MS) {
      await Promise.race([this.ended, sleep(LOOK_INTERVAL_MS)]);
      this.look();
    }
    return this.#isGone;
  }

  /** Never to a stranger that has its pid now. */
  #signal(signal: NodeJS.Signals): void {
    if (!this.isAlive) return;
    if (this.#child !== undefined) {
      this.#child.kill(signal);
      return;
    }
    try {
      process.kill(this.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error; // Gone in this moment.
    }
  }
}

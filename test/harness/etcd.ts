/**
 * A real etcd: one member, its data in a folder of its own (in memory where the machine offers
 * that: nobody tests disks here). It can be stopped, stood still and started again on its port.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "./ports.ts";
import { favour, find, Running, waitForListener } from "./processes.ts";

const MEMORY = "/dev/shm";

export type EtcdOptions = {
  /** Files of its certificate and key, and who signs those of its clients. */
  tls?: { certificate: string; key: string; ca: string };
};

export class Etcd {
  readonly endpoint: string;
  readonly #args: readonly string[];
  readonly #folder: string;
  #running: Running;

  private constructor(endpoint: string, folder: string, args: readonly string[]) {
    this.endpoint = endpoint;
    this.#args = args;
    this.#folder = folder;
    this.#running = this.#spawn();
  }

  static async start({ tls }: EtcdOptions = {}): Promise<Etcd> {
    const folder = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), "memward-etcd-"));
    const endpoint = `127.0.0.1:${await freePort()}`;
    const peer = `http://127.0.0.1:${await freePort()}`;
    const client = `${tls === undefined ? "http" : "https"}://${endpoint}`;
    const args = ["--data-dir", folder, "--log-level", "error", "--logger", "zap"];
    args.push("--listen-client-urls", client, "--advertise-client-urls", client);
    args.push("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer);
    args.push("--initial-cluster", `default=${peer}`);
    if (tls !== undefined) {
      args.push("--cert-file", tls.certificate, "--key-file", tls.key);
      args.push("--client-cert-auth", "--trusted-ca-file", tls.ca);
    }
    const etcd = new Etcd(endpoint, folder, args);
    await waitForListener(endpoint, etcd.#running);
    return etcd;
  }

  /** The URL of a cluster state that nobody else uses. */
  url(prefix: string): string {
    return `etcd://${this.endpoint}/${prefix}`;
  }

  signal(signal: NodeJS.Signals): void {
    this.#running.child.kill(signal);
  }

  /** Ends the process and keeps its data. */
  async halt(): Promise<void> {
    this.signal("SIGCONT");
    await this.#running.stop();
  }

  async startAgain(): Promise<void> {
    this.#running = this.#spawn();
    await waitForListener(this.endpoint, this.#running);
  }

  async stop(): Promise<void> {
    this.signal("SIGCONT");
    await this.#running.stop("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #spawn(): Running {
    const running = new Running("etcd", find("etcd") ?? "etcd", this.#args);
    favour(running.pid);
    return running;
  }
}

/** Monitors in processes of their own, told what to see and when to die; the state beside them. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Incident } from "../../core/cluster/incidents.ts";
import { openState } from "../../core/cluster/open.ts";
import type { ClusterState } from "../../core/cluster/state.ts";
import type { Condition } from "../../monitor/condition.ts";
import { Running, temporaryFolder } from "../harness/processes.ts";
import type { Prosody } from "../harness/prosody.ts";

const PROGRAM = `${import.meta.dirname}/monitorProcess.ts`;
const DEADLINE_MS = 25_000;
/** On a machine on which everything else starts as well. */
const START_MS_MAX = 50_000;

export interface MonitorSettings {
  name: string;
  url: string;
  statePath: string;
  dataDir: string;
  section: object;
  conditions: Condition[];
  /** Around the Nth write of an incident. */
  killAt?: { write: number; when: "before" | "after" } | undefined;
}

export type MonitorOrder =
  | { kind: "conditions"; conditions: readonly Condition[] }
  | { kind: "metrics" }
  | { kind: "end" };

export type MonitorStart = Partial<
  Pick<MonitorSettings, "name" | "conditions" | "killAt" | "section" | "dataDir">
>;

export function badNode(node = "node-1", over: Partial<Condition> = {}): Condition {
  return {
    kind: "node",
    subject: node,
    severity: "crit",
    summary: `${node} slow (30% of operations > 5 ms)`,
    details: ["seen by 2/2 proxies"],
    sinceMs: Date.now(),
    explains: [],
    ...over,
  };
}

/** The section `monitor:` for the accounts of a prosody; times as short as they may be. */
export function sectionFor(prosody: Prosody, over: Record<string, unknown> = {}): object {
  return {
    cluster: "eu1",
    people: { alice: { jid: prosody.jid("alice") }, bob: { jid: prosody.jid("bob") } },
    policies: { default: { levels: [{ to: ["person:alice"] }, { to: ["person:bob"] }] } },
    xmpp: prosody.account("monitor"),
    ...over,
  };
}

/** One cluster state, and what monitors on it have in common. */
export class Ward {
  readonly state: ClusterState;
  readonly #url: string;
  readonly #folder: string;
  readonly #section: object;
  readonly #monitors: MonitorProcess[] = [];

  private constructor(it: { state: ClusterState; url: string; folder: string; section: object }) {
    this.state = it.state;
    this.#url = it.url;
    this.#folder = it.folder;
    this.#section = it.section;
  }

  static async open(section: object, url = "sqlite"): Promise<Ward> {
    const folder = temporaryFolder("memward-ward");
    const path = join(folder, "state.db");
    const state = await openState({ url, path, troubled: () => {} });
    return new Ward({ state, url, folder, section });
  }

  async start(it: MonitorStart = {}): Promise<MonitorProcess> {
    const { name = "m1", conditions = [], killAt, section = this.#section } = it;
    const statePath = join(this.#folder, "state.db");
    const { dataDir = this.#folder } = it;
    const url = this.#url;
    const parts = { name, url, statePath, dataDir, section, conditions: [...conditions] };
    const monitor = await MonitorProcess.start({ ...parts, killAt });
    this.#monitors.push(monitor);
    return monitor;
  }

  async incidents(): Promise<Incident[]> {
    return (await this.state.list("incident")).entries.map(({ value }) => value);
  }

  /** The first incident for which that holds, once there is one. */
  async incident(holds: (incident: Incident) => boolean, ms = DEADLINE_MS): Promise<Incident> {
    const deadline = Date.now() + ms;
    for (;;) {
      const all = await this.incidents();
      const found = all.find(holds);
      if (found !== undefined) return found;
      if (Date.now() > deadline) {
        const logs = this.#monitors.map((one) => one.log.slice(-4_000)).join("\n---\n");
        throw new Error(`no incident: ${holds}\n${JSON.stringify(all, null, 1)}\n${logs}`);
      }
      await sleep(10);
    }
  }

  /** Name of the monitor that speaks. */
  async speaker(wanted?: string): Promise<string> {
    const deadline = Date.now() + DEADLINE_MS;
    for (;;) {
      const found = (await this.state.get("speaker", "speaker"))?.value.monitor;
      if (found !== undefined && (wanted === undefined || found === wanted)) return found;
      if (Date.now() > deadline) throw new Error(`nobody speaks: ${found}`);
      await sleep(10);
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#monitors.map((monitor) => monitor.kill()));
    await this.state.close();
  }
}

export class MonitorProcess {
  readonly #running: Running;
  #isStarted = false;
  readonly #metrics: ((text: string) => void)[] = [];

  private constructor(settings: MonitorSettings) {
    const args = ["--disable-warning=ExperimentalWarning", PROGRAM, JSON.stringify(settings)];
    this.#running = new Running("monitor", process.execPath, args, { hasChannel: true });
    this.#running.child.on("message", (told: { kind: string; text?: string }) => {
      if (told.kind === "started") this.#isStarted = true;
      if (told.kind === "metrics") this.#metrics.shift()?.(told.text ?? "");
    });
  }

  static async start(settings: MonitorSettings): Promise<MonitorProcess> {
    const monitor = new MonitorProcess(settings);
    const deadline = Date.now() + START_MS_MAX;
    while (!monitor.#isStarted) {
      const { exitCode } = monitor.#running;
      if (exitCode !== undefined && settings.killAt !== undefined) return monitor;
      if (exitCode !== undefined || Date.now() > deadline) {
        throw new Error(`the monitor does not start: ${monitor.log}`);
      }
      await sleep(5);
    }
    return monitor;
  }

  get log(): string {
    return this.#running.stdout + this.#running.stderr;
  }

  sees(conditions: readonly Condition[]): void {
    this.#order({ kind: "conditions", conditions });
  }

  async metrics(): Promise<string> {
    const text = new Promise<string>((resolve) => this.#metrics.push(resolve));
    this.#order({ kind: "metrics" });
    return text;
  }

  /** Resolves when it has killed itself, or was. */
  async died(): Promise<void> {
    await this.#running.exited;
  }

  async kill(): Promise<void> {
    await this.#running.stop("SIGKILL");
  }

  freeze(): void {
    this.#running.child.kill("SIGSTOP");
  }

  thaw(): void {
    this.#running.child.kill("SIGCONT");
  }

  async end(): Promise<number | null> {
    this.#order({ kind: "end" });
    return this.#running.exited;
  }

  #order(order: MonitorOrder): void {
    if (this.#running.child.connected) this.#running.child.send(order, () => {});
  }
}

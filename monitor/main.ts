/**
 * The monitor role: sees what is wrong, agrees with the other monitors on who speaks, tells people
 * and listens to them. Wiring only. Without people it opens and logs incidents all the same.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { MonitorWatch } from "../core/cluster/monitors.ts";
import { Presence } from "../core/cluster/presence.ts";
import type { Change, ClusterState } from "../core/cluster/state.ts";
import { clock, every } from "../core/runtime/clock.ts";
import type { Logger } from "../core/runtime/log.ts";
import { createRegistry } from "../core/runtime/metrics.ts";
import { secureBytes } from "../core/runtime/random.ts";
import type { RunningRole } from "../core/runtime/role.ts";
import type { Condition } from "./condition.ts";
import type { PagingConfig } from "./config/paging.ts";
import { pagingOf } from "./config/pagingOf.ts";
import { Documents } from "./ledger/documents.ts";
import { Ledger } from "./ledger/ledger.ts";
import { MonitorCounters, registerMonitorMetrics } from "./metrics.ts";
import type { MonitorOptions } from "./options.ts";
import { Outbox } from "./outbox/outbox.ts";
import { Owners } from "./outbox/owners.ts";
import { Reception } from "./outbox/reception.ts";
import { type Relayed, relayed } from "./outbox/relay.ts";
import { Driver } from "./speaker/driver.ts";
import { Election } from "./speaker/election.ts";
import { Watchtower } from "./watchtower.ts";
import type { IncomingText } from "./xmpp/link.ts";

export { FOLLOWED_KINDS } from "./ledger/documents.ts";

/** What sees: the watchtower, or what a test has seen. */
export type Eyes = Pick<Watchtower, "start" | "conditions" | "registerMetrics" | "close">;

export interface MonitorContext {
  readonly state: ClusterState;
  readonly log: Logger;
  readonly dataDir: string;
  /** Directory of the state's own file, where it lies on this machine. */
  readonly stateDir?: string | undefined;
  readonly eyes?: Eyes | undefined;
}

/** The record says that this monitor looks around; three of these are missed before others worry. */
const RECORD_INTERVAL_MS = 30_000;
const FORGET_INTERVAL_MS = 10 * 60_000;

export async function startMonitor(
  options: MonitorOptions,
  { state, log, dataDir, stateDir, eyes }: MonitorContext,
): Promise<RunningRole> {
  const { name } = options;
  const paging = pagingOf(options);
  const startedAtMs = clock.unixMs();
  const counters = new MonitorCounters();
  const watchtower =
    eyes ??
    new Watchtower({
      state,
      log,
      name,
      stateDir: stateDir ?? null,
      certificateFiles: options.certificateFiles,
      isProbing: options.probe,
    });
  const documents = new Documents({
    state,
    log,
    changed: (what) => driver.recordsChanged(what),
    isOwnTerm: (term) => election.isOwnTerm(term),
  });
  const election = new Election({
    state,
    log,
    clock,
    name,
    newTerm: () => Buffer.from(secureBytes(12)).toString("hex"),
    monitors: () => [name, ...documents.monitors.keys()],
    changed: (_, to) => {
      driver.stanceChanged(to);
      if (to === "listening") owners.forget();
    },
  });
  const ledger = new Ledger({
    state,
    election,
    documents,
    clock,
    log,
    journalPath: join(dataDir, `${name}.journal`),
    wrote: (seconds) => counters.writes.observe(seconds),
  });
  const monitors = new MonitorWatch({ state, log });
  const reception = await Reception.open({
    options,
    paging,
    counters,
    log,
    tell: (event) => driver.tell(event),
    linkChanged: () => void presence.publish(),
  });
  const { link } = reception;
  const outbox = new Outbox({
    linkTo: (jid) => reception.linkTo(jid),
    sendFallback: reception.sendFallback,
    log,
    tell: (event) => driver.tell(event),
    measured: (measure) => counters.measured(measure),
    maySpeak: () => election.maySpeak,
  });
  const passOn = async ({ order, answer }: Relayed, { from, id }: IncomingText): Promise<void> => {
    const key = createHash("sha256").update(`${from} ${id}`).digest("hex").slice(0, 16);
    const wish = { kind: "order", id: `${order?.createdAtMs}-${key}`, value: order } as Change;
    if (order !== undefined) await state.commit([wish]);
    const to = from;
    const reply = { id: `relay.${key}`, to, body: answer, wantsReceipt: false, isRoom: false };
    await reception.linkTo(from)?.send(reply);
  };
  const owners = new Owners({
    log,
    cluster: paging.cluster,
    send: (message) => reception.sendToOwner(message),
  });
  const driver: Driver = new Driver({
    election,
    documents,
    ledger,
    paging,
    clock,
    log,
    name,
    conditions: (unixMs) => [
      ...owners.settle(watchtower.conditions(unixMs), unixMs),
      ...silentMonitors(monitors, { name, unixMs }),
    ],
    facts: () => reception.facts(),
    carryOut: (effects, now) => outbox.carryOut(effects, now),
    relay: (message) => {
      const it = { paging, speaker: election.speaker, nowMs: clock.unixMs() };
      const found = relayed(message, it);
      if (found === undefined) counters.measured({ name: "ignored", reason: "not_speaking" });
      else void passOn(found, message).catch((error) => log.warn({ err: error }, "not passed on"));
    },
  });
  const presence: Presence<"monitor"> = new Presence({
    state,
    log,
    kind: "monitor",
    id: name,
    value: () => {
      const xmppIsUp = link === undefined ? null : link.isUp;
      return { pid: process.pid, startedAtMs, xmppIsUp, seenAtMs: clock.unixMs() };
    },
  });

  const registry = createRegistry();
  watchtower.registerMetrics(registry);
  registerMonitorMetrics(registry, {
    counters,
    documents: () => driver.state ?? documents.forPager(clock.unixMs()),
    unixMs: () => clock.unixMs(),
    isLinkUp: () => link?.isUp === true,
    stance: () => election.stance,
    fencedCount: () => election.fencedCount,
    droppedCount: () => driver.droppedCount,
    sentCount: () => outbox.sentCount,
    cancelledCount: () => outbox.cancelledCount,
  });

  ledger.recall();
  watchtower.start();
  monitors.start();
  void documents.start();
  reception.start();
  election.start();
  const saying = every(RECORD_INTERVAL_MS, () => void presence.publish());
  const forgetting = every(FORGET_INTERVAL_MS, () => void driver.forgetOld());
  void presence.publish();
  sayWhoIsPaged(paging, log);
  return {
    addresses: [],
    registry,
    // It watches from its first moment; whether it can reach people has metrics of its own.
    ready: () => true,
    drain: async () => {
      saying.stop();
      forgetting.stop();
      driver.close();
      await election.close();
      await reception.close();
      monitors.close();
      await watchtower.close();
      documents.close();
      await presence.end();
      ledger.close();
    },
  };
}

/** Another monitor that says nothing any more, while this one lives. */
function silentMonitors(
  monitors: MonitorWatch,
  { name, unixMs }: { name: string; unixMs: number },
): Condition[] {
  return monitors
    .silent()
    .filter((one) => one.name !== name)
    .map(({ name: subject, silentMs }) => ({
      kind: "monitorSilent",
      subject,
      severity: "warn",
      summary: `monitor ${subject} is silent`,
      details: ["if it was taken away for good this ends by itself within a day"],
      sinceMs: Math.round(unixMs - silentMs),
      explains: [],
    }));
}

function sayWhoIsPaged({ people }: PagingConfig, log: Logger): void {
  const names = Object.keys(people);
  if (names.length > 0) return log.info({ people: names }, "incidents are told to people");
  const how = "name people and an XMPP account in the section monitor of a file for --config";
  log.info(`incidents are logged and shown (memward incident list); nobody is paged: ${how}`);
}

/**
 * Everything that sees: what the state says, what proxies stream, what our canaries meet, joined
 * into what is wrong now. Watching is a socket's business (`observe`, `probe`), judging is pure
 * (`detect`, `alerts`); here they are wired, and nothing is decided.
 */
import type { ProxyView } from "../core/cluster/proxyView.ts";
import type { ClusterState } from "../core/cluster/state.ts";
import { clock, every, type Timer } from "../core/runtime/clock.ts";
import type { Logger } from "../core/runtime/log.ts";
import { type Registry, registerMetrics } from "../core/runtime/metrics.ts";
import { AlertBook, type AlertFigures, figuresOf } from "./alerts/alerts.ts";
import type { Condition } from "./condition.ts";
import { burnFindings, explainBurns } from "./detect/burning.ts";
import { Hold } from "./detect/hold.ts";
import type { Finding } from "./detect/kinds.ts";
import { type Cell, judgeMatrix } from "./detect/matrix.ts";
import {
  downFindings,
  expiryFindings,
  goneFindings,
  memoryFindings,
  slowNodeFindings,
  starvedFindings,
  stateFindings,
} from "./detect/standing.ts";
import { ClusterWatch } from "./observe/cluster.ts";
import { WATCH_METRICS } from "./observe/metrics.ts";
import { Premises } from "./observe/premises.ts";
import { Sightings } from "./observe/sightings.ts";
import { ViewStream } from "./observe/stream.ts";
import { PROBE_CACHE, Prober } from "./probe/prober.ts";

const TICK_MS = 100;
/** Judging more often than proxies tell anything is of no use. */
const JUDGE_INTERVAL_MS = 90;
/** A proxy that lives tells something five times a second. */
const SILENT_MS_MIN = 1_500;
/** If we slept for so long, nobody else is to blame for silence. */
const SLEPT_MS_MIN = 700;

export interface WatchtowerParts {
  state: ClusterState;
  log: Logger;
  /** Name of this monitor: its canaries carry it, so that two monitors do not meet. */
  name: string;
  /** Where the state lies on this machine, so that its disk is looked at; null if elsewhere. */
  stateDir: string | null;
  /** Files with certificates that must not expire unseen, as PEM. */
  certificateFiles: readonly string[];
  /** Whether canaries are sent as a client would send them. */
  isProbing: boolean;
}

export class Watchtower {
  readonly #parts: WatchtowerParts;
  readonly #facts: ClusterWatch;
  readonly #sightings = new Sightings();
  readonly #streams = new Map<string, ViewStream>();
  readonly #premises: Premises;
  readonly #prober: Prober | null;
  readonly #hold = new Hold();
  readonly #alerts = new AlertBook();
  #timer: Timer | null = null;
  #tickedAtMs = clock.nowMs();
  /** Monotonic: before it nobody was heard because nobody listened. */
  #awakeSinceMs = clock.nowMs();
  #judgedAtMs = Number.NEGATIVE_INFINITY;
  #conditions: readonly Condition[] = [];
  #lineCount = 0;

  constructor(parts: WatchtowerParts) {
    this.#parts = parts;
    const { state, log, name, stateDir, certificateFiles, isProbing } = parts;
    this.#facts = new ClusterWatch({ state, log });
    this.#premises = new Premises({ log, stateDir, certificateFiles, facts: this.#facts });
    this.#prober = isProbing ? new Prober({ state, log, name, facts: this.#facts }) : null;
  }

  /** Begins in the background: the state may be away, and that is something to tell. */
  start(): void {
    this.#facts.start();
    this.#premises.start();
    this.#prober?.start();
    this.#timer = every(TICK_MS, () => this.#tick());
  }

  async close(): Promise<void> {
    this.#timer?.stop();
    this.#facts.close();
    this.#premises.close();
    await this.#prober?.close();
    for (const stream of this.#streams.values()) stream.close();
    this.#streams.clear();
  }

  /**
   * What is wrong at `unixMs`, each thing once (`conditionKey`); ask every 100 to 200 ms. Cheap, and
   * never throws. Empty for the first moments, until there is something to judge by.
   */
  conditions(unixMs: number): readonly Condition[] {
    const nowMs = clock.nowMs();
    if (nowMs - this.#judgedAtMs < JUDGE_INTERVAL_MS) return this.#conditions;
    this.#judgedAtMs = nowMs;
    this.#conditions = this.#hold.settle(this.#findings(nowMs, unixMs), unixMs);
    return this.#conditions;
  }

  #findings(nowMs: number, unixMs: number): Finding[] {
    const facts = this.#facts;
    const premises = stateFindings(facts, this.#premises.disk, unixMs);
    if (!facts.isLoaded) return premises;
    const cells = this.#sightings.cells();
    const { starved } = this.#sightings;
    const matrix = judgeMatrix(
      {
        cells: cells.filter((cell) => !this.#isLeaving(cell)),
        commonTicks: this.#sightings.commonTicks(),
        starved,
        confirmed: new Set([
          ...facts.ejections.keys(),
          ...[...facts.suspicions.values()].map(({ cache, node }) => `${cache}/${node}`),
        ]),
        probedBad: this.#prober?.badCells(nowMs) ?? new Set(),
        probeCache: PROBE_CACHE,
        nameOf: (cache) => facts.caches.get(cache)?.name ?? cache,
      },
      unixMs,
    );
    const hasNodes = facts.nodes.size > 0;
    const findings = [
      ...matrix,
      ...this.#silentProxies(nowMs),
      ...starvedFindings(starved),
      ...(this.#prober?.findings() ?? []),
      ...goneFindings(facts, unixMs),
      ...downFindings(facts, cells, { probeCache: PROBE_CACHE, hasNodes }),
      ...burnFindings(this.#sightings.burns, facts, { nowMs, probeCache: PROBE_CACHE }),
      ...slowNodeFindings(this.#sightings.usualMs()),
      ...memoryFindings(facts),
      ...premises,
      ...expiryFindings(facts, this.#premises.certificates, unixMs),
      ...this.#alerts.findings(facts.caches, (cache) => this.#figuresOf(cache, nowMs)),
    ];
    return explainBurns(findings, cells);
  }

  #figuresOf(cache: string, nowMs: number): AlertFigures {
    const memoryUsed = this.#premises.memoryUse.get(cache) ?? null;
    const sessions = this.#sightings.sessionsOf(cache);
    return figuresOf(this.#sightings.burns.get(cache), { memoryUsed, sessions, nowMs });
  }

  /** What drains is taken out of routing on purpose. */
  #isLeaving({ node, cache }: Cell): boolean {
    const { nodeSettings, shards } = this.#facts;
    if (nodeSettings.get(node)?.draining) return true;
    return shards.get(`${cache}/${node}`)?.state === "draining";
  }

  /** Proxies that live in the state and tell nothing. */
  #silentProxies(nowMs: number): Finding[] {
    const findings: Finding[] = [];
    for (const [subject, { ops, ready }] of this.#facts.proxies) {
      if (ops === "" || !ready) continue;
      const heardAtMs = this.#sightings.lastLineAtMs(subject) ?? 0;
      const silentMs = nowMs - Math.max(heardAtMs, this.#awakeSinceMs);
      if (silentMs < SILENT_MS_MIN) continue;
      const summary = `${subject} streams no view, though it is registered`;
      findings.push({ kind: "proxySilent", subject, summary });
    }
    return findings;
  }

  #tick(): void {
    const nowMs = clock.nowMs();
    if (nowMs - this.#tickedAtMs > SLEPT_MS_MIN) this.#awakeSinceMs = nowMs;
    this.#tickedAtMs = nowMs;
    for (const [proxy, { ops }] of this.#facts.proxies) {
      const stream = this.#streams.get(proxy);
      if (stream?.ops === ops) continue;
      stream?.close();
      this.#streams.delete(proxy);
      if (ops !== "") this.#streams.set(proxy, this.#follow(proxy, ops));
    }
    for (const [proxy, stream] of this.#streams) {
      if (this.#facts.proxies.has(proxy)) continue;
      // While the state is away all records may be: what streams, lives.
      if (!this.#facts.isLoaded) continue;
      stream.close();
      this.#streams.delete(proxy);
      this.#sightings.forgetProxy(proxy);
    }
    this.#sightings.forgetOld(nowMs);
  }

  #follow(proxy: string, ops: string): ViewStream {
    const seen = (view: ProxyView): void => {
      this.#lineCount++;
      this.#sightings.add(view, clock.nowMs());
    };
    // Whoever was just found has a moment to speak.
    this.#sightings.expect(proxy, clock.nowMs());
    return new ViewStream({ proxy, ops, log: this.#parts.log, seen });
  }

  /** Adds what it measures to the metrics of the role. */
  registerMetrics(registry: Registry): void {
    registerMetrics(registry, WATCH_METRICS, {
      lines: (emit) => emit(this.#lineCount),
      streams: (emit) => emit(this.#streams.size),
      conditions: (emit) => {
        const counts = new Map<string, number>();
        for (const { kind } of this.#conditions) counts.set(kind, (counts.get(kind) ?? 0) + 1);
        for (const [kind, count] of counts) emit(count, kind);
      },
      probeSeconds: (emit) => {
        for (const { proxy, node, durationMs } of this.#prober?.cells() ?? []) {
          if (durationMs !== null) emit(durationMs / 1000, proxy, node);
        }
      },
      probeFailures: (emit) => {
        for (const { proxy, node, failureCount } of this.#prober?.cells() ?? []) {
          emit(failureCount, proxy, node);
        }
      },
    });
  }
}

/**
 * What the cluster stands on, looked at now and then: the disk of the state, certificates, and the
 * memory of caches whose owners want to hear of it.
 */
import { X509Certificate } from "node:crypto";
import { readFile, statfs } from "node:fs/promises";
import { askStats } from "../../core/cluster/shardStats.ts";
import { clock, every, type Timer } from "../../core/runtime/clock.ts";
import type { Logger } from "../../core/runtime/log.ts";
import type { Certificate, Disk } from "../detect/standing.ts";
import type { ClusterFacts } from "./cluster.ts";

const LOOK_INTERVAL_MS = 10_000;
const CERTIFICATES_INTERVAL_MS = 60_000;
const ASKED_AT_ONCE_MAX = 32;
const ASK_MS_MAX = 1_000;
const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

export interface PremisesParts {
  log: Logger;
  stateDir: string | null;
  certificateFiles: readonly string[];
  facts: Pick<ClusterFacts, "caches" | "shards">;
}

export class Premises {
  disk: Disk | null = null;
  certificates: readonly Certificate[] = [];
  /** Used share of the memory of caches, by id, where it is asked for. */
  memoryUse: ReadonlyMap<string, number> = new Map();
  readonly #parts: PremisesParts;
  readonly #timers: Timer[] = [];
  #certificatesAtMs = Number.NEGATIVE_INFINITY;
  #isLooking = false;

  constructor(parts: PremisesParts) {
    this.#parts = parts;
  }

  start(): void {
    void this.#look();
    this.#timers.push(every(LOOK_INTERVAL_MS, () => void this.#look()));
  }

  close(): void {
    for (const timer of this.#timers) timer.stop();
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      await this.#lookAtDisk();
      if (clock.nowMs() - this.#certificatesAtMs >= CERTIFICATES_INTERVAL_MS) {
        this.#certificatesAtMs = clock.nowMs();
        this.certificates = await Promise.all(
          this.#parts.certificateFiles.map((path) => this.#lookAtCertificate(path)),
        );
      }
      this.memoryUse = await this.#askMemory();
    } finally {
      this.#isLooking = false;
    }
  }

  async #lookAtDisk(): Promise<void> {
    const { stateDir, log } = this.#parts;
    if (stateDir === null) return;
    try {
      const { bavail, blocks, bsize } = await statfs(stateDir);
      this.disk = { path: stateDir, freeSize: bavail * bsize, size: blocks * bsize };
    } catch (error) {
      log.warn({ err: error, path: stateDir }, "the disk of the state cannot be looked at");
      this.disk = null;
    }
  }

  async #lookAtCertificate(path: string): Promise<Certificate> {
    try {
      return { path, expiresAtMs: expiryOf(await readFile(path, "utf8")) };
    } catch (error) {
      this.#parts.log.warn({ err: error, path }, "a certificate cannot be read");
      return { path, expiresAtMs: null };
    }
  }

  async #askMemory(): Promise<Map<string, number>> {
    const { caches, shards } = this.#parts.facts;
    const watched = new Set(
      [...caches].filter(([, { alerts }]) => alerts.memoryUsedMax !== null).map(([id]) => id),
    );
    // Servers of others (those with a stamp) are filled by others, too.
    const asked = [...shards.values()].filter(
      ({ cache, stamp }) => watched.has(cache) && stamp === "",
    );
    const sums = new Map<string, { bytes: number; limit: number }>();
    while (asked.length > 0) {
      const some = asked.splice(0, ASKED_AT_ONCE_MAX);
      const answers = await Promise.all(some.map(({ address }) => askStats(address, ASK_MS_MAX)));
      for (const [index, answer] of answers.entries()) {
        const sum = sums.get(some[index]!.cache) ?? { bytes: 0, limit: 0 };
        sum.bytes += answer?.get("bytes") ?? 0;
        sum.limit += answer?.get("limit_maxbytes") ?? 0;
        sums.set(some[index]!.cache, sum);
      }
    }
    const known = [...sums].filter(([, { limit }]) => limit > 0);
    return new Map(known.map(([cache, { bytes, limit }]) => [cache, bytes / limit]));
  }
}

/** The first certificate of the text to expire, in milliseconds since 1970. Throws on nonsense. */
export function expiryOf(text: string): number {
  const moments = [...text.matchAll(PEM)].map(([pem]) => {
    return new X509Certificate(pem).validToDate.getTime();
  });
  if (moments.length === 0) throw new Error("no certificate in it");
  return Math.min(...moments);
}

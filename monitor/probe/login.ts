/**
 * The cache of the canaries and this monitor's credential for it, made when the first monitor
 * starts. The password is made anew at each start and only in memory: the state has its digest, and
 * nothing is left to be stolen from a disk. Several monitors have a credential each.
 */
import { digestOf, newCredential } from "../../core/cluster/credentials.ts";
import { PROBE_CACHE, PROBE_CACHE_BYTES } from "../../core/cluster/internal.ts";
import type { ClusterState } from "../../core/cluster/state.ts";
import { clock } from "../../core/runtime/clock.ts";
import type { Logger } from "../../core/runtime/log.ts";

/** A login that is refused is made anew, but not again and again. */
const RENEW_INTERVAL_MS = 30_000;

export interface KnownLogin {
  readonly username: string;
  readonly password: string;
  /** Proxies know it from this revision on. */
  readonly revision: number;
}

export interface ProbeLoginParts {
  state: ClusterState;
  log: Logger;
  name: string;
}

export class ProbeLogin {
  login: KnownLogin | null = null;
  readonly #parts: ProbeLoginParts;
  #isWriting = false;
  #writtenAtMs = Number.NEGATIVE_INFINITY;

  constructor(parts: ProbeLoginParts) {
    this.#parts = parts;
  }

  /** Makes what is missing; a state that is away is asked again by the next call. */
  async ensure(): Promise<void> {
    if (this.#isWriting) return;
    this.#isWriting = true;
    try {
      await this.#write();
    } catch (error) {
      this.#parts.log.warn({ err: error }, "no login for canaries yet");
    } finally {
      this.#isWriting = false;
    }
  }

  /** Our record may have been taken away: write it anew, with another password. */
  async renew(): Promise<void> {
    if (clock.nowMs() - this.#writtenAtMs >= RENEW_INTERVAL_MS) await this.ensure();
  }

  async #write(): Promise<void> {
    const { state, name, log } = this.#parts;
    this.#writtenAtMs = clock.nowMs();
    const createdAtMs = clock.unixMs();
    const known = await state.get("cache", PROBE_CACHE);
    if (known === undefined) {
      // Another monitor may be faster: then it is there, and that is all we want.
      await state.commit([
        {
          kind: "cache",
          id: PROBE_CACHE,
          value: { name: PROBE_CACHE, bytes: PROBE_CACHE_BYTES, createdAtMs },
          expected: 0,
        },
      ]);
    }
    const { password } = newCredential();
    const username = `${PROBE_CACHE}.${name}`;
    const commit = await state.commit([
      {
        kind: "credential",
        id: username,
        value: {
          cache: PROBE_CACHE,
          digest: digestOf(password),
          rights: ["read", "write"],
          label: `canaries of the monitor ${name}`,
          createdAtMs,
        },
      },
    ]);
    if (!commit.ok) return log.error({ commit }, "the login of the canaries was not written");
    this.login = { username, password, revision: commit.revision };
  }
}

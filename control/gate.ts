/**
 * Who is asking: an operator by token, an application by a credential with the right `api`. Wrong
 * logins cost the address that sent them: after a handful it waits, right or wrong, so that nobody
 * tries passwords by the thousand. What is remembered about addresses is bounded.
 */
import { isIPv6 } from "node:net";
import { type Digest, verify, verifyScrypt } from "../core/cluster/credentials.ts";
import { parseNetworks } from "../core/cluster/networks.ts";
import type { OperatorRole, Right } from "../core/cluster/records.ts";
import type { Parts } from "./operations/change.ts";
import { tokenBehind } from "./operations/tokens.ts";

export interface Operator {
  readonly name: string;
  readonly role: OperatorRole;
}

export interface KnownLogin {
  readonly username: string;
  /** Id of its cache. */
  readonly cache: string;
  readonly rights: readonly Right[];
}

/** Statuses of HTTP: the login is wrong, the login is not good for this, too many were wrong. */
export type Rejection = 401 | 403 | 429;

/** Wrong logins that an address may send in a row, and how long until it may send one more. */
export const WRONG_LOGINS_MAX = 10;
const WRONG_LOGIN_MS = 6_000;
const ADDRESS_COUNT_MAX = 10_000;
/** Each takes 16 MB and some 50 ms of a thread. */
const SCRYPT_AT_ONCE_MAX = 4;

export class Gate {
  readonly #parts: Pick<Parts, "state" | "view" | "clock">;
  readonly #attempts: Attempts;
  /** Rejections by status, for the metrics. */
  readonly rejected: Map<Rejection, number> = new Map();
  #scryptCount = 0;

  constructor(parts: Pick<Parts, "state" | "view" | "clock">) {
    this.#parts = parts;
    this.#attempts = new Attempts(() => parts.clock.nowMs());
  }

  /** The operator whose token it is. */
  async operatorOf(token: string, address: string): Promise<Operator | Rejection> {
    const { view, clock } = this.#parts;
    return this.#admit(address, async () => {
      const found = tokenBehind(view, token, clock.unixMs());
      return found === undefined ? 401 : { name: found.value.name, role: found.value.role };
    });
  }

  /** The credential of that login; 403 when it is right but has no right to use the API. */
  async credentialOf(
    { username, password }: { username: string; password: string },
    address: string,
  ): Promise<KnownLogin | Rejection> {
    const { state, view, clock } = this.#parts;
    return this.#admit(address, async () => {
      const isKnown = view.credentials.has(username);
      const found = isKnown ? await state.get("credential", username) : undefined;
      const isRight = await this.#verify(found?.value.digest, Buffer.from(password));
      if (isRight === "busy") return 429;
      if (found === undefined || !isRight) return 401;
      const { cache, rights, expiresAtMs, networks } = found.value;
      // Expired, or from elsewhere: like a wrong password.
      if (expiresAtMs !== null && expiresAtMs <= clock.unixMs()) return 401;
      if (parseNetworks(networks)?.includes(address) === false) return 401;
      return rights.includes("api") ? { username, cache, rights } : 403;
    });
  }

  /** Seconds until the address may try again. */
  retryAfterSeconds(address: string): number {
    return Math.max(1, Math.ceil(this.#attempts.waitMs(address) / 1000));
  }

  async #admit<T extends object>(
    address: string,
    look: () => Promise<T | Rejection>,
  ): Promise<T | Rejection> {
    // Taken before and given back after, so that many at once are no way around.
    const isTaken = this.#attempts.take(address);
    let isWrong = false;
    try {
      const found = isTaken ? await look() : 429;
      if (typeof found === "object") return found;
      isWrong = found === 401;
      this.rejected.set(found, (this.rejected.get(found) ?? 0) + 1);
      return found;
    } finally {
      if (isTaken && !isWrong) this.#attempts.giveBack(address);
    }
  }

  async #verify(digest: Digest | undefined, password: Uint8Array): Promise<boolean | "busy"> {
    if (digest?.algorithm !== "scrypt") return verify(digest, password);
    if (this.#scryptCount >= SCRYPT_AT_ONCE_MAX) return "busy";
    this.#scryptCount++;
    try {
      return await verifyScrypt(digest, password);
    } finally {
      this.#scryptCount--;
    }
  }
}

/** Whom a request is from: an IPv4 address that came in IPv6's clothes without them. */
export function addressOf({ ip }: { readonly ip: string }): string {
  return ip.replace(/^::ffff:(?=\d+\.)/, "");
}

/** Attempts left, by address: a bucket that refills with time. IPv6 counts by network. */
class Attempts {
  readonly #nowMs: () => number;
  readonly #spent = new Map<string, { count: number; atMs: number }>();

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  take(address: string): boolean {
    const key = keyOf(address);
    const count = this.#count(key);
    if (count > WRONG_LOGINS_MAX - 1) return false;
    this.#set(key, count + 1);
    return true;
  }

  giveBack(address: string): void {
    const key = keyOf(address);
    this.#set(key, this.#count(key) - 1);
  }

  waitMs(address: string): number {
    return (this.#count(keyOf(address)) - (WRONG_LOGINS_MAX - 1)) * WRONG_LOGIN_MS;
  }

  #count(key: string): number {
    const spent = this.#spent.get(key);
    if (spent === undefined) return 0;
    return Math.max(0, spent.count - (this.#nowMs() - spent.atMs) / WRONG_LOGIN_MS);
  }

  #set(key: string, count: number): void {
    this.#spent.delete(key);
    if (count <= 0) return;
    this.#spent.set(key, { count, atMs: this.#nowMs() });
    const [oldest] = this.#spent.keys();
    if (this.#spent.size > ADDRESS_COUNT_MAX && oldest !== undefined) this.#spent.delete(oldest);
  }
}

/** Whoever has one IPv6 address has 2^64 of them. */
function keyOf(address: string): string {
  if (!isIPv6(address) || address.includes(".")) return address;
  const [head = "", tail] = address.replace(/%.*$/, "").split("::");
  const left = head.split(":").filter(Boolean);
  const right = (tail ?? "").split(":").filter(Boolean);
  const zeros = new Array<string>(Math.max(0, 8 - left.length - right.length)).fill("0");
  return [...left, ...zeros, ...right].slice(0, 4).join(":");
}

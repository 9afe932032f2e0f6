/**
 * Checking passwords. Ours have SHA-256 digests and are checked in passing. Those that people chose
 * have scrypt digests, which take some 50 ms in a thread of libuv's pool: a right one is checked
 * once in each worker and then remembered as an HMAC under a key that dies with the process, so
 * all later logins cost what others do.
 *
 * Work that strangers can cause is bounded: few checks run at once, few wait, a source address may
 * have only some of them, and sources take turns. The same password for the same username is
 * checked once however many sessions ask. While any login has a scrypt digest, every refusal takes
 * this way (a check of nothing, if need be), so time tells nobody which usernames exist, nor which
 * of them have chosen passwords.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { type ScryptDigest, verify, verifyScrypt } from "../../core/cluster/credentials.ts";
import { type SecureBytes, secureBytes } from "../../core/runtime/random.ts";
import type { Login } from "./tenant.ts";

/** At once; libuv's pool has four threads, and others need them too. */
export const CHECKS_RUNNING_MAX = 2;
/** Of all sources, and of one. */
export const CHECKS_WAITING_MAX = 256;
export const CHECKS_OF_SOURCE_MAX = 8;
const KEY_SIZE = 32;

/** Called once, unless the check was left before. */
export type Checked = () => void;

/** A check that somebody waits for. */
export interface Check {
  /** Nobody waits for it any more here. */
  leave(): void;
}

interface Job {
  readonly id: string;
  readonly source: string;
  /** Undefined: work for nothing. */
  readonly login: Login | undefined;
  readonly digest: ScryptDigest | undefined;
  readonly password: Buffer;
  readonly waiting: Set<Checked>;
}

type Verify = (digest: ScryptDigest | undefined, password: Uint8Array) => Promise<boolean>;

export class Passwords {
  readonly #key: Uint8Array;
  readonly #verify: Verify;
  /** Running and waiting ones, by what they check. */
  readonly #jobs: Map<string, Job> = new Map();
  /** Waiting ones by source; the order of the sources is that of their turns. */
  readonly #waiting: Map<string, Job[]> = new Map();
  readonly #countOf: Map<string, number> = new Map();
  #waitingCount = 0;
  runningCount = 0;

  constructor(random: SecureBytes = secureBytes, verifyDigest: Verify = verifyScrypt) {
    this.#key = random(KEY_SIZE);
    this.#verify = verifyDigest;
  }

  get waitingCount(): number {
    return this.#waitingCount;
  }

  /** Whether it is right as far as that can be said in passing; the same work for any login. */
  isRight(login: Login | undefined, password: Uint8Array): boolean {
    const isDigest = verify(login?.digest, password);
    if (login?.digest.algorithm !== "scrypt" || login.remembered === null) return isDigest;
    return timingSafeEqual(login.remembered, this.#hmac(login.digest.hash, password));
  }

  /**
   * Spends what a check of a chosen password takes; after it `isRight` knows. Null if there are
   * too many: the caller has to refuse for that reason. The password is copied.
   */
  check(
    login: Login | undefined,
    password: Uint8Array,
    source: string,
    checked: Checked,
  ): Check | null {
    const digest = login?.digest.algorithm === "scrypt" ? login.digest : undefined;
    const name = digest === undefined ? "" : `${login?.username} ${digest.hash}`;
    const id = `${digest === undefined ? source : ""} ${this.#hmac(name, password).toString("hex")}`;
    const job = this.#jobs.get(id) ?? this.#newJob({ id, source, login, digest }, password);
    if (job === null) return null;
    job.waiting.add(checked);
    return { leave: () => this.#leave(job, checked) };
  }

  #newJob(of: Pick<Job, "id" | "source" | "login" | "digest">, password: Uint8Array): Job | null {
    const { id, source } = of;
    const countOfSource = this.#countOf.get(source) ?? 0;
    if (countOfSource >= CHECKS_OF_SOURCE_MAX || this.#waitingCount >= CHECKS_WAITING_MAX) {
      return null;
    }
    const job: Job = { ...of, password: Buffer.from(password), waiting: new Set() };
    this.#jobs.set(id, job);
    this.#countOf.set(source, countOfSource + 1);
    const ofSource = this.#waiting.get(source);
    if (ofSource === undefined) this.#waiting.set(source, [job]);
    else ofSource.push(job);
    this.#waitingCount++;
    this.#runNext();
    return job;
  }

  #leave(job: Job, checked: Checked): void {
    job.waiting.delete(checked);
    const ofSource = this.#waiting.get(job.source);
    const at = ofSource?.indexOf(job) ?? -1;
    if (job.waiting.size > 0 || ofSource === undefined || at < 0) return;
    ofSource.splice(at, 1);
    if (ofSource.length === 0) this.#waiting.delete(job.source);
    this.#waitingCount--;
    this.#forget(job);
  }

  #runNext(): void {
    while (this.runningCount < CHECKS_RUNNING_MAX) {
      const next = this.#waiting.entries().next();
      if (next.done) return;
      const [source, jobs] = next.value;
      const job = jobs.shift()!;
      // To the end of the turns.
      this.#waiting.delete(source);
      if (jobs.length > 0) this.#waiting.set(source, jobs);
      this.#waitingCount--;
      this.runningCount++;
      this.#run(job);
    }
  }

  #run(job: Job): void {
    const { login, digest, password } = job;
    this.#verify(digest, password).then(
      (isRight) => {
        if (isRight && login !== undefined && digest !== undefined && login.digest === digest) {
          login.remembered = this.#hmac(digest.hash, password);
        }
        this.#done(job);
      },
      // Not enough memory for the work, for one: nothing is remembered, so the answer is no.
      () => this.#done(job),
    );
  }

  #done(job: Job): void {
    job.password.fill(0);
    this.runningCount--;
    this.#forget(job);
    this.#runNext();
    for (const checked of job.waiting) checked();
  }

  #forget(job: Job): void {
    this.#jobs.delete(job.id);
    const count = (this.#countOf.get(job.source) ?? 1) - 1;
    if (count > 0) this.#countOf.set(job.source, count);
    else this.#countOf.delete(job.source);
  }

  #hmac(name: string, password: Uint8Array): Buffer {
    return createHmac("sha256", this.#key).update(`${name}\0`).update(password).digest();
  }
}

/**
 * A POST with JSON to a URL that was configured. Signed where there is a secret, so that whoever
 * gets it knows whose it is and when it was made. Redirects are not followed, answers are not read
 * beyond their status, and neither URL nor secrets are told in errors: the URL may be one.
 */
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { request as httpsRequest } from "node:https";
import { clock, sleep } from "../../core/runtime/clock.ts";
import { type Random, random } from "../../core/runtime/random.ts";
import type { WebhookOptions } from "../config/schema.ts";
import { readSecretFile } from "../secretFile.ts";
import type { Fallback, FallbackFailure, Notice, Outcome } from "./fallback.ts";

const ATTEMPT_MS_MAX = 5_000;
const ATTEMPT_COUNT_MAX = 3;
const PAUSE_MS_MIN = 250;
const IN_FLIGHT_MAX = 64;
/** Characters of a body; chats that take webhooks show less. */
const BODY_LENGTH_MAX = 8_000;

/** Answers that may be another one a moment later. */
const PASSING_STATUSES = new Set([408, 425, 429]);
const PASSING: ReadonlySet<FallbackFailure> = new Set([
  "unreachable",
  "timed_out",
  "closed",
  "unavailable",
]);

export interface WebhookParts {
  readonly name: string;
  readonly options: WebhookOptions;
  readonly attemptMsMax?: number;
  readonly random?: Random;
}

type Attempt = { ok: true } | { ok: false; failure: FallbackFailure; detail: string };

export class Webhook implements Fallback {
  readonly name: string;
  readonly #parts: WebhookParts;
  readonly #stopping = new AbortController();
  #inFlightCount = 0;

  constructor(parts: WebhookParts) {
    this.name = parts.name;
    this.#parts = parts;
  }

  async send(notice: Notice): Promise<Outcome> {
    if (this.#inFlightCount >= IN_FLIGHT_MAX) {
      return { ok: false, failure: "busy", detail: `${IN_FLIGHT_MAX} are under way` };
    }
    this.#inFlightCount += 1;
    try {
      return await this.#try(notice);
    } finally {
      this.#inFlightCount -= 1;
    }
  }

  async close(): Promise<void> {
    this.#stopping.abort();
  }

  async #try(notice: Notice): Promise<Outcome> {
    const startedAtMs = clock.nowMs();
    for (let attemptCount = 1; ; attemptCount += 1) {
      const attempt = await this.#attempt(notice);
      if (attempt.ok) return { ok: true, ms: clock.nowMs() - startedAtMs, attemptCount };
      if (this.#stopping.signal.aborted) return { ok: false, failure: "stopped", detail: "" };
      if (attemptCount >= ATTEMPT_COUNT_MAX || !PASSING.has(attempt.failure)) return attempt;
      const chance = (this.#parts.random ?? random).next();
      await sleep(PAUSE_MS_MIN * 2 ** (attemptCount - 1) * (1 + chance));
    }
  }

  async #attempt(notice: Notice): Promise<Attempt> {
    const { url, caFile, tokenFile, secretFile } = this.#parts.options;
    const text = JSON.stringify({
      id: notice.id,
      to: notice.to,
      text: notice.body.slice(0, BODY_LENGTH_MAX),
      payload: notice.payload ?? {},
    });
    const headers: Record<string, string> = {
      "content-type": "application/json",
      "content-length": String(Buffer.byteLength(text)),
      "user-agent": "memward",
      "idempotency-key": encodeURIComponent(notice.id),
    };
    if (tokenFile !== undefined) {
      const token = readSecretFile(tokenFile);
      if (!token.ok) return { ok: false, failure: "secret_file", detail: token.problem };
      headers["authorization"] = `Bearer ${token.text}`;
    }
    if (secretFile !== undefined) {
      const secret = readSecretFile(secretFile);
      if (!secret.ok) return { ok: false, failure: "secret_file", detail: secret.problem };
      headers["memward-signature"] = signature(text, secret.text, clock.unixMs());
    }
    const options: RequestOptions & { ca?: string } = { method: "POST", headers, agent: false };
    try {
      if (caFile !== undefined) options.ca = readFileSync(caFile, "utf8");
      return await this.#post(new URL(url), options, text);
    } catch (error) {
      return failed(error as NodeJS.ErrnoException);
    }
  }

  #post(url: URL, options: RequestOptions, text: string): Promise<Attempt> {
    const { promise, resolve } = Promise.withResolvers<Attempt>();
    const timeout = AbortSignal.timeout(this.#parts.attemptMsMax ?? ATTEMPT_MS_MAX);
    const signal = AbortSignal.any([timeout, this.#stopping.signal]);
    const send = url.protocol === "https:" ? httpsRequest : httpRequest;
    const request = send(url, { ...options, signal }, (response) => {
      resolve(judged(response));
      response.resume(); // Its rest is thrown away until the attempt's time is over.
      response.on("error", () => {}); // Judged already: the status is all that counts.
    });
    request.on("error", (error: NodeJS.ErrnoException) => {
      const slow = { ok: false, failure: "timed_out", detail: "no answer in time" } as const;
      resolve(timeout.aborted ? slow : failed(error));
    });
    request.end(text);
    return promise;
  }
}

/**
 * `t=<seconds since 1970>,v1=<hex>`: HMAC-SHA-256 with the secret over `<seconds>.<body>`. Whoever
 * checks it compares in constant time and refuses what is older than a few minutes.
 */
export function signature(body: string, secret: string, unixMs: number): string {
  const seconds = Math.floor(unixMs / 1_000);
  const signed = createHmac("sha256", secret).update(`${seconds}.${body}`).digest("hex");
  return `t=${seconds},v1=${signed}`;
}

function judged({ statusCode = 0 }: IncomingMessage): Attempt {
  const detail = `HTTP ${statusCode}`;
  if (statusCode >= 200 && statusCode < 300) return { ok: true };
  if (statusCode >= 300 && statusCode < 400) return { ok: false, failure: "redirected", detail };
  const isPassing = statusCode >= 500 || PASSING_STATUSES.has(statusCode);
  return { ok: false, failure: isPassing ? "unavailable" : "refused", detail };
}

const FAILURES: readonly (readonly [RegExp, FallbackFailure])[] = [
  [/^(ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ENETDOWN|ENOTFOUND|EAI_)/, "unreachable"],
  [/^ETIMEDOUT$/, "timed_out"],
  [/CERT|UNABLE_TO_|SELF_SIGNED|ALTNAME|^ENOENT$|^EACCES$|PEM/, "certificate"],
];

/** By its code alone: messages of Node may hold the URL. */
function failed({ code = "" }: NodeJS.ErrnoException): Attempt {
  const failure = FAILURES.find(([pattern]) => pattern.test(code))?.[1] ?? "closed";
  return { ok: false, failure, detail: code };
}

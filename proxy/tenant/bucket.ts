/**
 * A token bucket: `perSecond` tokens come in, at most one second's worth is kept, and whoever took
 * more than there was leaves a debt that later tokens pay first. Pure: time comes as an argument.
 */
export class TokenBucket {
  #perSecond: number;
  #tokens: number;
  #atMs: number;

  /** Starts full. `perSecond` is above zero and may be a fraction. */
  constructor(perSecond: number, nowMs: number) {
    this.#perSecond = perSecond;
    this.#tokens = this.#most;
    this.#atMs = nowMs;
  }

  /** Whole tokens there are now; 0 or less when nobody may take any. */
  available(nowMs: number): number {
    this.#refill(nowMs);
    return Math.floor(this.#tokens);
  }

  /** Takes `count`, into debt if it must be. */
  take(count: number): void {
    this.#tokens -= count;
  }

  /** Tokens come at another rate from now on; those that are there stay, as far as they fit. */
  setRate(perSecond: number, nowMs: number): void {
    this.#refill(nowMs);
    this.#perSecond = perSecond;
    this.#tokens = Math.min(this.#tokens, this.#most);
  }

  /** A second's worth, and room for a whole one. */
  get #most(): number {
    return Math.max(1, this.#perSecond);
  }

  #refill(nowMs: number): void {
    const passedMs = nowMs - this.#atMs;
    if (passedMs <= 0) return;
    this.#atMs = nowMs;
    this.#tokens = Math.min(this.#most, this.#tokens + (this.#perSecond * passedMs) / 1000);
  }
}

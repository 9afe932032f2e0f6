/**
 * Who is looked at every tick: the caches in which something happens. Of a thousand caches most are
 * idle most of the time; they are in no list, and cost nothing.
 */
export interface Watched {
  /** True while it has to be looked at again in the next tick. */
  tick(nowMs: number): boolean;
}

export class Rounds {
  #due: Watched[] = [];
  #next: Watched[] = [];

  /** From the next round on; whoever is already there does not ask again. */
  add(watched: Watched): void {
    this.#due.push(watched);
  }

  run(nowMs: number): void {
    const due = this.#due;
    this.#due = this.#next;
    this.#next = due;
    for (const watched of due) if (watched.tick(nowMs)) this.#due.push(watched);
    due.length = 0;
  }
}

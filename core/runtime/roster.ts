/**
 * Who is there: members that come and go by the thousand a second, as sessions do. A Set would do,
 * but for what it leaves behind: each time it makes a new table its old one keeps the new one alive,
 * and all who were in it. In a storm of logins that was everything since the last full collection,
 * copied by the young collections in between (10 ms each instead of 0.5).
 *
 *     places: | a |   | c | d |   |      free: 4, 1
 */

/** What `add` answers: it takes the member out again. */
export type Place = number;

export const NOWHERE: Place = -1;

export class Roster<Member extends object> {
  readonly #places: (Member | null)[] = [];
  readonly #free: Place[] = [];

  get size(): number {
    return this.#places.length - this.#free.length;
  }

  add(member: Member): Place {
    const place = this.#free.pop() ?? this.#places.length;
    this.#places[place] = member;
    return place;
  }

  /** Whoever is at this place is gone. */
  remove(place: Place): void {
    this.#places[place] = null;
    this.#free.push(place);
    if (this.size > 0) return;
    this.#places.length = 0;
    this.#free.length = 0;
  }

  /** In no order. Members may come and go meanwhile; who comes may be seen or not. */
  *[Symbol.iterator](): Generator<Member> {
    for (let place = 0; place < this.#places.length; place++) {
      const member = this.#places[place];
      if (member) yield member;
    }
  }
}

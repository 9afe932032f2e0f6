import { describe, expect, test } from "vitest";
import { seededRandom } from "../../../core/runtime/random.ts";
import { KeyTrail } from "../../../proxy/routing/keyTrail.ts";

describe("a trail of keys", () => {
  test("gives them back in their order, whatever was dropped between them (seed 7)", () => {
    const random = seededRandom(7);
    const trail = new KeyTrail();
    const wanted: string[] = [];
    for (let step = 0; step < 20_000; step++) {
      // Longer and shorter by turns, so that it grows, moves and is empty again.
      const isFilling = Math.floor(step / 500) % 2 === 0;
      if (random.next() < (isFilling ? 0.7 : 0.3)) {
        const key = `${step}`.padEnd(1 + Math.floor(random.next() * 250), "k");
        trail.note(Buffer.from(`..${key}`), 2, key.length);
        wanted.push(key);
      } else if (wanted.length > 0) {
        const key = wanted.shift();
        if (random.next() < 0.5) trail.drop();
        else expect(trail.take().toString()).toBe(key);
      }
    }
    for (const key of wanted) expect(trail.take().toString()).toBe(key);
  });

  test("that was cleared begins anew", () => {
    const trail = new KeyTrail();
    trail.note(Buffer.from("old"), 0, 3);
    trail.clear();
    trail.note(Buffer.from("new"), 0, 3);
    expect(trail.take().toString()).toBe("new");
  });
});

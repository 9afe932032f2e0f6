/** The fake has to keep the contract of the link, or tests on it prove nothing. */
import { describe, expect, test } from "vitest";
import type { OutgoingMessage } from "../../monitor/xmpp/link.ts";
import { type Behaviour, FakeLink } from "./fakeLink.ts";
import { Observed } from "./xmpp/observed.ts";

const page = (id: string): OutgoingMessage => {
  return { id, to: "alice@alert.test", body: id, wantsReceipt: true, isRoom: false };
};

async function told(behaviour: Behaviour): Promise<string[]> {
  const link = new FakeLink();
  const observed = new Observed();
  link.behave("alice@alert.test", behaviour);
  link.start(observed);
  link.advance(0);
  for (const id of ["1", "2"]) {
    await link.send(page(id)).catch(() => observed.lines.push(`rejected ${id}`));
  }
  link.advance(60_000);
  return observed.lines.slice(1);
}

describe("what becomes of two messages", () => {
  const accepted = ["accepted 1", "accepted 2"];
  const phone = (word: string, id: string) => `${word} alice@alert.test/phone ${id}`;
  test.each<[Behaviour, string[]]>([
    ["receipt", [...accepted, phone("received", "1"), phone("received", "2")]],
    ["silence", accepted],
    ["late", [...accepted, phone("received", "1"), phone("received", "2")]],
    ["reordered", [...accepted, phone("received", "2"), phone("received", "1")]],
    ["rejects", ["rejected 1", "rejected 2"]],
    ["unsure", ["down closed scripted", "unsure 1", "up", "unsure 2"]],
  ])("%s", async (behaviour, lines) => {
    expect(await told(behaviour)).toEqual(lines);
  });

  test("nothing is sent while it is down", async () => {
    const link = new FakeLink({ isUp: false });
    link.start(new Observed());
    await expect(link.send(page("1"))).rejects.toThrow("down");
    link.comeUp();
    await link.send(page("1"));
    expect(link.sent).toHaveLength(1);
  });
});

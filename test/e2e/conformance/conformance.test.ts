/**
 * Promise: Memward answers as memcached does. Each conversation is held with real memcached in
 * this run and then with an embedded shard, with the listener without login, and through logins, on
 * both engines; the transcripts must be the same to the byte, except where `deviations.ts` says why
 * not.
 */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Memward, startMemward } from "../../harness/memward.ts";
import { type Memcached, startMemcached } from "../../harness/processes.ts";
import { connect, startRelay } from "../../harness/wire.ts";
import { describeWith } from "../suite.ts";
import { binaryConversations } from "./binary.ts";
import type { Conversation, Subject, Transcript } from "./conversation.ts";
import { type Held, holdAll } from "./corpus.ts";
import { DEVIATIONS, type Deviation, deviationOf, type Expected } from "./deviations.ts";
import { metaConversations } from "./meta.ts";
import { textConversations } from "./text.ts";

const TEXT = [...textConversations, ...metaConversations];
const ALL = [...TEXT, ...binaryConversations];
const ASKED_OF_MEMCACHED = ALL.filter((conversation) => {
  const deviation = deviationOf(conversation);
  return deviation === undefined || !("instead" in deviation);
});
const HOLD_MS_MAX = 120_000;

const at = (name: string, address: string): Subject => ({ name, open: () => connect(address) });

describeWith(["memcached"], "conformance with real memcached", () => {
  let memcached: Memcached;
  let second: Memcached;
  let memward: Memward;
  let reference: Map<Conversation, Held>;
  let again: Map<Conversation, Held>;

  beforeAll(async () => {
    memcached = await startMemcached();
    second = await startMemcached();
    [reference, again] = await Promise.all([
      holdAll(at("memcached", memcached.address), ASKED_OF_MEMCACHED),
      holdAll(at("second memcached", second.address), ASKED_OF_MEMCACHED),
    ]);
  }, HOLD_MS_MAX);

  afterAll(async () => {
    await memward?.stop();
    await second.stop();
    await memcached.stop();
  });

  describe("the comparison itself", () => {
    test("a second memcached answers all of it the same", () => {
      for (const conversation of ASKED_OF_MEMCACHED) {
        const { dialect, name } = conversation;
        expect({ dialect, name, ...again.get(conversation) }).toEqual({
          dialect,
          name,
          ...reference.get(conversation),
        });
      }
    });

    test.each([
      ["one byte of a value", "abc\r\n", "abd\r\n"],
      ["one byte of a status line", "VALUE", "VALVE"],
      ["a reply that is missing", "STORED\r\n", ""],
      ["a reply twice", "STORED\r\n", "STORED\r\nSTORED\r\n"],
      ["a flag", " 0 3\r\n", " 1 3\r\n"],
      ["a line end", "END\r\n", "END\n"],
    ])("a relay that falsifies %s is found out", async (_, from, to) => {
      const change = (chunk: Buffer): Buffer =>
        Buffer.from(chunk.toString("latin1").replaceAll(from, to), "latin1");
      const relay = await startRelay({ dial: () => connect(second.address), change });
      const one = textConversations.filter(({ name }) => name === "get of two keys");
      const falsified = await holdAll(at("falsifying relay", relay.address), one);
      await relay.stop();
      for (const conversation of one) {
        expect(falsified.get(conversation)).not.toEqual(reference.get(conversation));
      }
    });

    test("every deviation names conversations of the corpus and still deviates", () => {
      for (const deviation of DEVIATIONS) {
        for (const name of deviation.names) {
          const found = ALL.find((one) => one.dialect === deviation.dialect && one.name === name);
          expect(found, `${deviation.dialect} ${name}`).toBeDefined();
          if (found === undefined || "instead" in deviation) continue;
          const { whole } = reference.get(found) as Held;
          expect(deviation.change(whole), name).not.toEqual(whole);
        }
      }
    });
  });

  describe("Memward", () => {
    beforeAll(async () => {
      memward = await startMemward({ args: ["--memory", "256mb"] });
    }, 60_000);

    /** While a shard drops what has moved, it also drops what others own and we store in it. */
    const hasSettled = (): Promise<boolean> =>
      memward.state(async (state) => {
        const layouts = (await state.list("layout")).entries;
        const serials = new Map(layouts.map(({ id, value }) => [id, value.serial]));
        const shards = (await state.list("shard")).entries;
        return shards.every(({ value }) => value.layout >= (serials.get(value.cache) ?? 0));
      });

    compare("an embedded shard", ALL, async () => {
      await vi.waitUntil(hasSettled, { timeout: 30_000 });
      const [shard] = await memward.shards();
      return at("embedded shard", shard?.address ?? "");
    });
    compare("the listener without login", TEXT, async () => at("plain", memward.plain));
    compare("sessions that logged in", ALL, async () => ({
      name: "logged in",
      open: (dialect) => memward.open(dialect),
    }));
  });

  describe("Memward on memcached", () => {
    let other: Memward;
    beforeAll(async () => {
      other = await startMemward({ args: ["--memory", "256mb", "--engine", "memcached"] });
    }, 60_000);
    afterAll(() => other?.stop());

    compare("sessions that logged in, on the engine memcached", ALL, async () => ({
      name: "logged in",
      open: (dialect) => other.open(dialect),
    }));
  });

  function compare(
    title: string,
    conversations: readonly Conversation[],
    makeSubject: () => Promise<Subject>,
  ): void {
    describe(title, () => {
      let subject: Subject;
      let answers: Map<Conversation, Held>;
      beforeAll(async () => {
        subject = await makeSubject();
        answers = await holdAfresh(subject, conversations);
      }, HOLD_MS_MAX);

      /** Another try holds it anew: a shard also drops keys that are another node's by now. */
      async function answerTo(conversation: Conversation): Promise<Held> {
        const held = answers.get(conversation);
        answers.delete(conversation);
        return held ?? (await holdAfresh(subject, [conversation])).get(conversation)!;
      }

      test.each(
        conversations.map((conversation) => [label(conversation), conversation] as const),
      )("%s", async (_, conversation) => {
        const deviation = deviationOf(conversation);
        const answer = await answerTo(conversation);
        const expected = reference.get(conversation);
        check(answer.whole, expected?.whole, deviation);
        if (answer.bytes !== undefined) check(answer.bytes, expected?.bytes, deviation);
      });
    });
  }
});

/** On an empty server: others have used the same keys. */
async function holdAfresh(
  subject: Subject,
  conversations: readonly Conversation[],
): Promise<Map<Conversation, Held>> {
  const wire = await subject.open("text");
  await wire.ask("flush_all\r\n", "OK\r\n");
  wire.close();
  return holdAll(subject, conversations);
}

const label = ({ dialect, name }: Conversation): string => `${dialect}: ${name}`;

function check(
  answer: Transcript,
  reference: Transcript | undefined,
  deviation: Deviation | undefined,
): void {
  const expected = expectedOf(reference ?? [], deviation);
  expect(answer).toEqual(
    expected.map((reply) => (reply instanceof RegExp ? expect.stringMatching(reply) : reply)),
  );
}

function expectedOf(reference: Transcript, deviation: Deviation | undefined): Expected {
  if (deviation === undefined) return reference;
  return "instead" in deviation ? deviation.instead : deviation.change(reference);
}

/**
 * The fuzzer for a few seconds, with a known seed; everything it once found; and the proof
 * that it finds something: broken framers, a server that answers wrongly and one that harms other
 * sessions must all be caught.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Verdict } from "../../core/protocol/request.ts";
import { clock } from "../../core/runtime/clock.ts";
import { describeWith } from "../e2e/suite.ts";
import { missing, startMemcached } from "../harness/processes.ts";
import { connect, startRelay } from "../harness/wire.ts";
import { type Check, judgeOf, run, shown } from "./campaign.ts";
import { ATTEMPT_COUNT, type Finding } from "./differential.ts";
import { FRAMERS, type Framers } from "./framers.ts";
import { type FuzzedProxy, type Servers, startServers } from "./servers.ts";
import { newTag, restored, type StoredStream, type Stream, TAG } from "./stream.ts";

const FUZZING_MS = 5_000;
const REGRESSION_FOLDER = join(import.meta.dirname, "regression");

let servers: Servers | undefined;
beforeAll(async () => {
  if (missing("memcached") === undefined) servers = await startServers();
});
afterAll(() => servers?.stop());

const running = (): Servers => {
  if (servers === undefined) throw new Error("no servers");
  return servers;
};

/** Streams until the first failure or the `countMax`-th. */
const untilCaught = (framers: Framers): ReturnType<typeof run> =>
  run({ seed: 1, servers: undefined, framers, isOver: (streamCount) => streamCount >= 400 });

describe("the canary", () => {
  const { text, binary, textReply, binaryReply } = FRAMERS;
  const BROKEN: [what: string, framers: Partial<Framers>][] = [
    [
      "asks for a byte too few",
      {
        text: (request, bytes, from, to) => {
          const verdict = text(request, bytes, from, to);
          if (verdict === Verdict.incomplete) request.sizeNeeded--;
          return verdict;
        },
      },
    ],
    [
      "looks behind the bytes at hand",
      { text: (request, bytes, from) => text(request, bytes, from, bytes.length) },
    ],
    [
      "skips a byte when a line goes on",
      {
        text: (request, bytes, from, to) => {
          const verdict = text(request, bytes, from, to);
          if (verdict === Verdict.incomplete && request.scannedSize > 0) request.scannedSize++;
          return verdict;
        },
      },
    ],
    [
      "takes a packet for whole when its key is there",
      {
        binary: (request, bytes, from, to) => {
          const verdict = binary(request, bytes, from, to);
          const hasKey =
            request.sizeNeeded > 24 && to - from >= request.sizeNeeded - request.valueSize;
          return verdict === Verdict.incomplete && hasKey ? Verdict.framed : verdict;
        },
      },
    ],
    [
      "throws at an unknown opcode",
      {
        binary: (request, bytes, from, to) => {
          const verdict = binary(request, bytes, from, to);
          if (verdict === Verdict.refused && request.problem === "error")
            throw new RangeError("opcode");
          return verdict;
        },
      },
    ],
    [
      "takes a reply that has begun for a broken one",
      {
        textReply: (reply, bytes, from, to, command) => {
          const verdict = textReply(reply, bytes, from, to, command);
          return verdict === Verdict.incomplete && to - from > 8 ? Verdict.refused : verdict;
        },
      },
    ],
    [
      "frames the first packet of many",
      {
        binaryReply: (reply, bytes, from, to, command) => {
          const verdict = binaryReply(reply, bytes, from, to, command);
          if (verdict === Verdict.framed) reply.size = to - from;
          return verdict;
        },
      },
    ],
  ];

  test.each(BROKEN)("catches a framer that %s", async (_, broken) => {
    const { failure } = await untilCaught({ ...FRAMERS, ...broken });
    expect(failure?.check).toMatch(/^(requests|replies)$/);
  });
});

describe.skipIf(missing("memcached") !== undefined)("the canary for servers", () => {
  /** A memcached behind a relay that falsifies what it says, in place of a proxy. */
  async function falsified(change: (chunk: Buffer) => Buffer): Promise<Servers> {
    const memcached = await startMemcached();
    const relay = await startRelay({ dial: () => connect(memcached.address), change });
    const stop = async (): Promise<void> => {
      await relay.stop();
      await memcached.stop();
    };
    const { address } = relay;
    const failures = async () => ({});
    const proxy: FuzzedProxy = { name: "a liar", address, loginAddress: address, failures };
    return { reference: running().reference, proxies: [proxy], stop };
  }

  const stream = (...lines: string[]): Stream => ({
    dialect: "text",
    pieces: lines.map((line) => ({ bytes: Buffer.from(`${line}\r\n`) })),
    cuts: [],
  });
  const judge = (check: Check, liar: Servers, sent: Stream): Promise<Finding | null> =>
    judgeOf(check, 1, liar)(sent, { tag: newTag(), attemptCount: 1 });

  test("catches a server that answers one word wrongly", async () => {
    const liar = await falsified((chunk) =>
      Buffer.from(chunk.toString("latin1").replace("NOT_STORED", "STORED"), "latin1"),
    );
    const harmless = await judge("compare", liar, stream(`get ${TAG}`, "mn"));
    const finding = await judge("compare", liar, stream("mn", `replace ${TAG} 0 0 1\r\nx`, "mn"));
    await liar.stop();
    expect(harmless).toBeNull();
    expect(finding).toContain("  memcached NOT_STORED");
    expect(finding).toContain("  memward   STORED");
  });

  test("catches a server in which an error in one session shifts the replies of another", async () => {
    let isOutOfStep = false;
    const liar = await falsified((chunk) => {
      const wasOutOfStep = isOutOfStep;
      if (chunk.includes("ERROR")) isOutOfStep = true;
      return wasOutOfStep ? chunk.subarray(1) : chunk;
    });
    const harmless = await judge("harm", liar, stream(`get ${TAG}`, "mn"));
    const finding = await judge("harm", liar, stream("no such command"));
    await liar.stop();
    expect(harmless).toBeNull();
    expect(finding).toContain("another session got wrong answers");
  });
});

describeWith(["memcached"], "what was found once", () => {
  const files = readdirSync(REGRESSION_FOLDER).filter((name) => name.endsWith(".json"));

  test.each(files)("%s", async (name) => {
    const file = readFileSync(join(REGRESSION_FOLDER, name), "utf8");
    const { check, seed, ...stream } = JSON.parse(file) as StoredStream & {
      check: Check;
      seed: number;
    };
    const judge = judgeOf(check, seed, running());
    const finding = await judge(restored(stream), { tag: newTag(), attemptCount: ATTEMPT_COUNT });
    expect(finding, finding?.join("\n")).toBeNull();
  });
});

const SEED = 20_261_121;
const STREAM_COUNT = 400;

test("streams of a known seed, for a few seconds", async () => {
  // Always the same streams: what lands must not depend on luck. `npm run fuzz` looks for new ones.
  const seed = Number(process.env["FUZZ_SEED"] ?? SEED);
  const endMs = clock.nowMs() + FUZZING_MS;
  const { failure, streamCount } = await run({
    seed,
    servers,
    isOver: (count) => count >= STREAM_COUNT || clock.nowMs() > endMs,
  });
  console.log(`fuzzed ${streamCount} streams, seed ${seed}`);
  expect(failure, failure === null ? "" : shown(failure)).toBeNull();
  expect(streamCount).toBeGreaterThan(0);
});

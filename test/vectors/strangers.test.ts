/** What stock clients send is framed command by command, to the last byte, wherever it is cut. */
import { beforeAll, expect, test } from "vitest";
import { frameBinary } from "../../core/protocol/binary.ts";
import { COMMANDS } from "../../core/protocol/command.ts";
import { Request, Verdict } from "../../core/protocol/request.ts";
import { frameText } from "../../core/protocol/text.ts";
import { describeWith } from "../e2e/suite.ts";
import { missing, missingForSasl } from "../harness/processes.ts";
import { type Recording, recordStrangers } from "./strangers.ts";

const FRAME = { binary: frameBinary, text: frameText };

/** Names of the commands in `bytes`; fails on anything that is refused or left over. */
function commandsOf({ dialect, sent, client }: Recording): string[] {
  const request = new Request();
  const names: string[] = [];
  let at = 0;
  while (at < sent.length) {
    request.scannedSize = 0;
    const verdict = FRAME[dialect](request, sent, at, sent.length);
    expect({ client, at, verdict }).toEqual({ client, at, verdict: Verdict.framed });
    names.push(COMMANDS[request.command]?.name ?? "?");
    at += request.size;
  }
  expect(at).toBe(sent.length);
  return names;
}

describeWith(
  ["memcstat", "memcached"],
  "what stock clients send",
  () => {
    let recordings: Recording[];
    beforeAll(async () => {
      recordings = await recordStrangers();
    }, 60_000);

    test("is framed whole", () => {
      expect(recordings.length).toBeGreaterThan(10);
      for (const recording of recordings) expect(commandsOf(recording)).not.toHaveLength(0);
    });

    test("begins with a login in binary", () => {
      for (const recording of recordings.filter(({ dialect }) => dialect === "binary")) {
        const [first, second] = commandsOf(recording);
        expect([recording.client, first, second]).toEqual([
          recording.client,
          "mechanisms",
          "login",
        ]);
      }
    });

    test("is incomplete at every cut inside a command, and only there", () => {
      const request = new Request();
      for (const { dialect, sent } of recordings.filter(({ sent: all }) => all.length < 30_000)) {
        let start = 0;
        while (start < sent.length) {
          request.scannedSize = 0;
          FRAME[dialect](request, sent, start, sent.length);
          const { size, command } = request;
          for (let cut = 1; cut < Math.min(size, 400); cut++) {
            request.scannedSize = 0;
            const verdict = FRAME[dialect](request, sent, start, start + cut);
            expect(verdict).toBe(Verdict.incomplete);
            expect(request.sizeNeeded).toBeGreaterThan(cut);
            expect(request.sizeNeeded).toBeLessThanOrEqual(size);
          }
          request.scannedSize = 0;
          expect(FRAME[dialect](request, sent, start, start + size)).toBe(Verdict.framed);
          expect(request.command).toBe(command);
          start += size;
        }
      }
    });
  },
  missing("memcstat", "memcached") ?? missingForSasl(),
);

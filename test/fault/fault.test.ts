/**
 * Shards and agents die and stop, and links between proxies and shards fail in every way, while
 * clients work through three proxies: no value that was overwritten is ever read again.
 * `npm run fault` does the same for as long as it is told.
 */
import { describe, expect, test } from "vitest";
import { missing } from "../harness/processes.ts";
import { runCampaign } from "./campaign.ts";

const why = missing("memcached", "etcd");
const SEED = 7;

describe.skipIf(why !== undefined)(`shards fail under load, seed ${SEED}`, () => {
  test.each([
    { subject: "memward", seconds: 22 },
    { subject: "memward-copies", seconds: 14 },
  ] as const)("no get returns an older value than the last acknowledged one ($subject)", {
    timeout: 120_000,
  }, async ({ subject, seconds }) => {
    const report = await runCampaign({
      subject,
      seconds,
      seed: SEED,
      holdMs: 1_500,
      calmMs: 1_000,
      log: () => {},
    });
    expect(report.staleAfterConvergence, JSON.stringify(report)).toBe(0);
    expect(report.hits).toBeGreaterThan(1000);
    expect(report.mutations - report.failedMutations).toBeGreaterThan(1000);
    expect(Object.keys(report.faults).length).toBeGreaterThan(0);
  });
});

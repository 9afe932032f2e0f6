/**
 * Shards and agents die and stop, and links between proxies and shards fail in every way, while
 * clients work through three proxies: no value that was overwritten is ever read again.
 * `npm run fault` does the same for as long as it is told.
 */
import { describe, expect, test } from "vitest";
import { missing } from "../harness/processes.ts";
import { runCampaign } from "./campaign.ts";

const why = missing("memcached", "etcd");

describe.skipIf(why !== undefined)("shards fail under load", () => {
  // The seeds choose the faults, other ones for each subject.
  test.each([
    { subject: "memward", seed: 7 },
    { subject: "memward-copies", seed: 21 },
  ] as const)("no get returns an older value than the last acknowledged one ($subject, seed $seed)", {
    timeout: 120_000,
  }, async ({ subject, seed }) => {
    const report = await runCampaign({
      ...{ subject, seed, seconds: 10, holdMs: 1_200, calmMs: 600 },
      log: () => {},
    });
    expect(report.staleAfterConvergence, JSON.stringify(report)).toBe(0);
    expect(report.hits).toBeGreaterThan(100);
    expect(report.mutations - report.failedMutations).toBeGreaterThan(100);
    expect(Object.keys(report.faults).length).toBeGreaterThan(0);
  });
});

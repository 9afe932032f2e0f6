/**
 * `npm run bench -- --only paging`: what the monitor promises, measured whole: real monitors, states,
 * prosody, and for the first line real proxies and memcached. Devices are processes on this machine,
 * so of phones and mobile networks it says nothing.
 *
 * - onset to receipt: a node's memcached is stopped (SIGSTOP); until the first page is on the device.
 * - open to receipt: from the record of the incident to the receipt, both in its own timeline.
 * - command to answer: `status` from the device until the answer is there.
 * - takeover: the speaker is killed (SIGKILL) with an open incident; until the other one has it.
 * - server back: prosody is killed with a page under way; from its port being open until the page is there.
 * - fallback: prosody is stopped for good; until the webhook has the page.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Device } from "../harness/device.ts";
import { Etcd } from "../harness/etcd.ts";
import { missing, temporaryFolder } from "../harness/processes.ts";
import { Prosody } from "../harness/prosody.ts";
import { badNode, sectionFor, Ward } from "../monitor/monitors.ts";
import { PagingInstance } from "../monitor/onset.ts";

const COUNTS = { onset: 3, receipt: 200, command: 50, takeover: 3, back: 3 };
/** Milliseconds, of the 99th percentile. */
const BARS = {
  "onset to receipt": 3_000,
  "open to receipt": 250,
  "command to answer": 1_000,
  "takeover, SQLite": 7_000,
  "takeover, etcd": 7_000,
  "server back to page": 1_000,
  "server gone to fallback": 11_000,
} as const;
type What = keyof typeof BARS;

export type PagingFigures = {
  what: string;
  count: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  verdict: "met" | "missed";
};

export async function benchPaging(): Promise<PagingFigures[]> {
  const absent = missing("prosody", "openssl", "memcached", "etcd");
  if (absent !== undefined) {
    process.stdout.write(`not measured: paging, ${absent}\n`);
    return [];
  }
  const prosody = await Prosody.start();
  const alice = await Device.start(prosody, "alice");
  const etcd = await Etcd.start();
  const found: PagingFigures[] = [];
  /** One part that fails leaves the others. */
  const measure = async (run: () => Promise<Partial<Record<What, number[]>>>): Promise<void> => {
    try {
      for (const [what, values] of Object.entries(await run())) {
        found.push(figuresOf(what as What, values));
      }
    } catch (error) {
      process.stdout.write(`not measured: ${String((error as Error).message).slice(0, 300)}\n`);
    }
  };
  try {
    await measure(async () => ({ "onset to receipt": await onsets(prosody, alice) }));
    await measure(() => throughOneMonitor(prosody, alice));
    await measure(async () => ({
      "takeover, SQLite": await takeovers(prosody, alice, () => "sqlite"),
    }));
    await measure(async () => ({
      "takeover, etcd": await takeovers(prosody, alice, (round) => etcd.url(`bench-${round}`)),
    }));
    await measure(async () => ({ "server back to page": await backs(prosody, alice) }));
    await measure(async () => ({ "server gone to fallback": [await fallback(prosody)] }));
    return found;
  } finally {
    await alice.kill();
    await prosody.stop();
    await etcd.stop();
  }
}

export function pagingText(figures: readonly PagingFigures[]): string {
  const lines = figures.map(({ what, count, p50Ms, p99Ms, maxMs, verdict }) => {
    const values = [p50Ms, p99Ms, maxMs].map((ms) => ms.toFixed(1).padStart(9)).join(" ");
    return `${`${what} (${count})`.padEnd(30)} ${values}  ${verdict}`;
  });
  const bars = Object.entries(BARS).map(([what, ms]) => `${what} ${ms}`);
  return [
    `${"paging over loopback, ms".padEnd(30)}       p50       p99       max`,
    ...lines,
    `bars, p99: ${bars.join(", ")} ms`,
  ].join("\n");
}

async function onsets(prosody: Prosody, alice: Device): Promise<number[]> {
  const took: number[] = [];
  for (let round = 0; round < COUNTS.onset; round++) {
    const instance = await PagingInstance.start(prosody, { over: onlyAlice(prosody) });
    await sleep(5_000); // It is to know what healthy looks like.
    const before = alice.messages.length;
    const { atMs, heal } = await instance.stall(round % 4);
    const page = await alice.message(
      (message) => alice.messages.indexOf(message) >= before && / CRIT /.test(message.body),
      30_000,
    );
    took.push(page.atMs - atMs);
    heal();
    await instance.stop();
  }
  return took;
}

async function throughOneMonitor(
  prosody: Prosody,
  alice: Device,
): Promise<{ "open to receipt": number[]; "command to answer": number[] }> {
  const ward = await Ward.open(sectionFor(prosody, onlyAlice(prosody)));
  try {
    const monitor = await ward.start();
    await ward.speaker("m1");
    const receipts: number[] = [];
    for (let n = 1; n <= COUNTS.receipt; n++) {
      const node = `node-${n}`;
      monitor.sees([badNode(node)]);
      const { openedAtMs, notifications } = await ward.incident(
        ({ subject, notifications: [first] }) =>
          subject === node && (first?.deliveredAtMs ?? null) !== null,
      );
      receipts.push((notifications[0]?.deliveredAtMs ?? 0) - openedAtMs);
      monitor.sees([]);
      await resolve(ward, n);
    }
    const commands: number[] = [];
    for (let n = 0; n < COUNTS.command; n++) {
      const before = alice.messages.length;
      const askedAtMs = Date.now();
      alice.say(prosody.jid("monitor"), "who");
      const answer = await alice.message((one) => alice.messages.indexOf(one) >= before);
      commands.push(answer.atMs - askedAtMs);
    }
    return { "open to receipt": receipts, "command to answer": commands };
  } finally {
    await ward.close();
  }
}

/** So many at once would be one incident to a person. */
async function resolve(ward: Ward, number: number): Promise<void> {
  const target = String(number).padStart(10, "0");
  const value = { verb: "resolve", target, by: "token:bench", createdAtMs: Date.now() } as const;
  await ward.state.commit([{ kind: "order", id: `order-${target}`, value }]);
  await ward.incident((one) => one.number === number && one.state === "resolved");
}

async function takeovers(
  prosody: Prosody,
  alice: Device,
  urlOf: (round: number) => string,
): Promise<number[]> {
  const took: number[] = [];
  for (let round = 0; round < COUNTS.takeover; round++) {
    const section = (account: string) =>
      sectionFor(prosody, { ...onlyAlice(prosody), xmpp: prosody.account(account) });
    const ward = await Ward.open(section("monitor"), urlOf(round));
    const before = alice.messages.length;
    const conditions = [badNode()];
    const start = (name: string, account: string) =>
      ward.start({
        name,
        conditions,
        section: section(account),
        dataDir: temporaryFolder("monitor"),
      });
    const one = await start("m1", "monitor");
    await ward.speaker("m1");
    await start("m2", "monitor2");
    await alice.message((message) => alice.messages.indexOf(message) >= before);
    const killedAtMs = Date.now();
    await one.kill();
    const taken = await ward.incident(({ log }) => log.some(({ event }) => event === "taken over"));
    const line = taken.log.findLast(({ event }) => event === "taken over");
    took.push((line?.atMs ?? Number.POSITIVE_INFINITY) - killedAtMs);
    await ward.close();
  }
  return took;
}

async function backs(prosody: Prosody, alice: Device): Promise<number[]> {
  const took: number[] = [];
  for (let round = 0; round < COUNTS.back; round++) {
    const ward = await Ward.open(sectionFor(prosody, onlyAlice(prosody)));
    const monitor = await ward.start();
    await ward.speaker("m1");
    const before = alice.messages.length;
    await prosody.kill();
    monitor.sees([badNode()]);
    await ward.incident(({ notifications }) => notifications.length > 0);
    await prosody.startAgain();
    const backAtMs = Date.now();
    const page = await alice.message((message) => alice.messages.indexOf(message) >= before);
    took.push(Math.max(0, page.atMs - backAtMs));
    await ward.close();
  }
  return took;
}

async function fallback(prosody: Prosody): Promise<number> {
  const got = Promise.withResolvers<number>();
  const hook = createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      got.resolve(Date.now());
      response.writeHead(204).end();
    });
  });
  await new Promise<void>((done) => hook.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${(hook.address() as AddressInfo).port}/page`;
  const alice = { jid: prosody.jid("alice"), fallback: [{ webhook: "hook" }] };
  const over = { ...onlyAlice(prosody), people: { alice }, webhooks: { hook: { url } } };
  const ward = await Ward.open(sectionFor(prosody, over));
  const monitor = await ward.start();
  await ward.speaker("m1");
  await prosody.kill();
  const goneAtMs = Date.now();
  monitor.sees([badNode()]);
  const tookMs = (await got.promise) - goneAtMs;
  await ward.close();
  hook.close();
  await prosody.startAgain();
  return tookMs;
}

function onlyAlice(prosody: Prosody): Record<string, unknown> {
  return {
    people: { alice: { jid: prosody.jid("alice") } },
    policies: { default: { levels: [{ to: ["person:alice"] }] } },
  };
}

function figuresOf(what: What, values: readonly number[]): PagingFigures {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] as number;
  const [p50Ms, p99Ms, maxMs] = [at(0.5), at(0.99), at(1)];
  const verdict = p99Ms <= BARS[what] ? "met" : "missed";
  return { what, count: sorted.length, p50Ms, p99Ms, maxMs, verdict };
}

/**
 * Random histories: conditions come and go, people answer or not, messages arrive, bounce or get
 * lost, the link breaks, the process is killed, all in any order. After each step the world checks
 * what must always hold (`world.ts`); at the end of each history nobody may have been forgotten.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Severity } from "../../../monitor/condition.ts";
import { parseMessageId } from "../../../monitor/escalate/messageId.ts";
import type { PagerEvent } from "../../../monitor/incident/types.ts";
import { condition, manual, World } from "./world.ts";

const PEOPLE = ["alice", "bob", "carol"];
const RESOURCES = ["phone", "laptop"];
const SUBJECTS = ["b1", "b2", "b3"];
/** Looks are rarer than in reality, histories longer. */
const LOOK_MS = 5_000;
/** A night of it: MEMWARD_HISTORIES=100000 npx vitest run test/monitor/incident/histories.test.ts */
const RUNS = Number(process.env["MEMWARD_HISTORIES"] ?? 100);

interface Act {
  run(world: World): void;
  [fc.toStringMethod](): string;
}

/** An act that can be read where a history fails. */
function act(label: string, run: (world: World) => void): Act {
  return { run, [fc.toStringMethod]: () => label };
}

const person = fc.constantFrom(...PEOPLE);
const device = fc
  .tuple(fc.constantFrom(...PEOPLE, "mallory"), fc.constantFrom(...RESOURCES))
  .map(([name, resource]) => `${name}@alert.test/${resource}`);
const seen = fc.record({
  subject: fc.constantFrom(...SUBJECTS),
  severity: fc.constantFrom<Severity>("crit", "crit", "warn"),
  explains: fc.subarray(SUBJECTS.map((subject) => `node:${subject}`)),
});
const command = fc.oneof(
  fc.constantFrom("ack", "status", "who", "help", "drill me", "ok", "what?", "silence node:b* 5m"),
  fc
    .tuple(
      fc.constantFrom("ack", "unack", "resolve", "escalate", "note", "silence", "unsilence"),
      fc.integer({ min: 1, max: 6 }),
      fc.constantFrom("", "5m", "bob", "carol", "some words"),
    )
    .map((words) => words.join(" ")),
);

/** Something that may be said about the nth message that was sent. */
function about(
  kind: "accepted" | "unsure" | "delivered" | "displayed" | "bounced",
): fc.Arbitrary<Act> {
  return fc.tuple(fc.nat(99), device, fc.boolean()).map(([index, stranger, isOwn]) =>
    act(`${kind} ${index} by ${isOwn ? "its owner" : stranger}`, (world) => {
      const sent = world.sends();
      const message = sent[index % Math.max(1, sent.length)]?.message;
      if (message === undefined) return;
      const { person: owner } = parseMessageId(message.id) ?? { person: "" };
      const from = isOwn ? `${owner}@alert.test/phone` : stranger;
      const extra = { from, condition: "recipient-unavailable" };
      world.say({ kind, messageId: message.id, ...extra } as PagerEvent);
    }),
  );
}

const passing = (tenthsMax: number) =>
  fc
    .nat(tenthsMax)
    .map((tenths) => act(`pass ${tenths / 10}`, (world) => world.pass(tenths / 10, LOOK_MS)));
const observing = fc.array(seen, { maxLength: 4 }).map((all) =>
  act(`observe ${JSON.stringify(all)}`, (world) => {
    world.observe(...all.map((one) => condition(one)));
  }),
);
const DEVICES = PEOPLE.flatMap((name) => RESOURCES.map((one) => `${name}@alert.test/${one}`));
const linking = fc
  .subarray(DEVICES)
  .map((devices) => act(`link up ${devices}`, (world) => world.linkUp(...devices)));
const appearing = fc.tuple(device, fc.constantFrom(-1, 0, 5, null)).map(([from, priority]) =>
  act(`presence ${from} ${priority}`, (world) => {
    world.say({ kind: "presence", from, priority, show: "" });
  }),
);
const pinging = fc.tuple(device, fc.constantFrom(2, 50, null)).map(([jid, roundTripMs]) =>
  act(`pinged ${jid} ${roundTripMs}`, (world) => {
    world.say({ kind: "pinged", jid, roundTripMs });
  }),
);
const saying = fc
  .tuple(person, command, fc.option(fc.nat(5)), fc.option(fc.nat(2_000)))
  .map(([name, body, twice, ageSeconds]) =>
    act(`${name} says ${body}, stanza ${twice}, ${ageSeconds} s old`, (world) => {
      world.says(name, body, {
        ...(twice === null ? {} : { id: `again-${twice}` }),
        ...(ageSeconds === null ? {} : { delayedAtMs: world.nowMs - ageSeconds * 1_000 }),
      });
    }),
  );
const quorum = fc.boolean().map((isThere) =>
  act(`quorum ${isThere}`, (world) => {
    world.say({ kind: "quorum", isThere, monitor: "m2" });
  }),
);
const blinking = fc.boolean().map((isObserving) =>
  act(`observing ${isObserving}`, (world) => {
    world.isObserving = isObserving;
  }),
);

const anything: fc.Arbitrary<Act> = fc.oneof(
  { weight: 6, arbitrary: passing(4_000) },
  { weight: 3, arbitrary: passing(300) },
  { weight: 5, arbitrary: observing },
  { weight: 2, arbitrary: linking },
  { weight: 2, arbitrary: fc.constant(act("link down", (world) => world.linkDown())) },
  { weight: 2, arbitrary: appearing },
  { weight: 1, arbitrary: pinging },
  { weight: 5, arbitrary: saying },
  { weight: 4, arbitrary: about("delivered") },
  { weight: 2, arbitrary: about("accepted") },
  { weight: 1, arbitrary: about("displayed") },
  { weight: 2, arbitrary: about("unsure") },
  { weight: 2, arbitrary: about("bounced") },
  { weight: 2, arbitrary: fc.constant(act("restart", (world) => world.restart())) },
  { weight: 1, arbitrary: quorum },
  { weight: 1, arbitrary: blinking },
);

const schedules = {
  primary: {
    timezone: "Europe/Zurich",
    rotation: { start: "2026-01-05T09:00", every: "PT1H", people: ["alice", "bob"] },
  },
};
const levels = [
  { to: ["schedule:primary"] },
  { to: ["person:bob", "person:carol"] },
  { to: ["group:all"], room: "war@rooms.alert.test", after: "300s" },
];
const CONFIGS = [
  manual(),
  manual({ schedules, policies: { default: { levels } } }),
  manual({ policies: { default: { levels: [{ to: ["person:alice"] }] } } }),
];

test("in no history is anybody paged after an acknowledgement, or an incident forgotten", () => {
  fc.assert(
    fc.property(
      fc.nat(CONFIGS.length - 1),
      fc.array(anything, { minLength: 5, maxLength: 60 }),
      (config, acts) => {
        const world = new World(CONFIGS[config]);
        for (const one of acts) one.run(world);
        nobodyIsForgotten(world);
      },
    ),
    { numRuns: RUNS, includeErrorInReport: true },
  );
}, 86_400_000);

/** With a link and nobody answering, all that is open is told to somebody every two minutes. */
function nobodyIsForgotten(world: World): void {
  world.isObserving = true;
  world.say({ kind: "quorum", isThere: true, monitor: "m1" });
  world.linkDown();
  world.linkUp(...PEOPLE.map((name) => `${name}@alert.test/phone`));
  world.pass(310, LOOK_MS); // Whatever was told last has escalated to everybody by now.
  world.clear();
  world.pass(125, LOOK_MS);
  const told = new Set(
    world
      .sends()
      .filter(({ message }) => message.payload?.["purpose"] === "page")
      .map(({ message }) => parseMessageId(message.id)?.subject),
  );
  for (const incident of Object.values(world.state.incidents)) {
    const { state, severity, silence, explainedBy, number, origin } = incident;
    if (state !== "open" || severity !== "crit") continue;
    if (silence !== null || explainedBy !== null || incident.openedAtMs > world.nowMs - 430_000)
      continue;
    if ((incident.pagingSinceMs ?? world.nowMs) > world.nowMs - 430_000) continue;
    const shown = origin === "" ? `${number}` : `${number}@${origin}`;
    expect(told).toContain(shown);
  }
}

import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import type { Drill } from "../../../core/cluster/incidents.ts";
import { checkMonitorSection, neverDrilled } from "../../../monitor/config/check.ts";
import { durationText, parseDuration, parseLocal } from "../../../monitor/config/durations.ts";

const NOW = Date.UTC(2026, 10, 21, 12);
const GOOD = `
cluster: eu1
people:
  alice: { jid: alice@alert.example, fallback: [ { xmpp: alice@other.example }, { webhook: alice-hook } ] }
  bob: { jid: bob@alert.example }
groups:
  backend: [alice, bob]
schedules:
  primary:
    timezone: Europe/Zurich
    rotation: { start: 2026-01-05T09:00, every: P7D, people: [alice, bob] }
    overrides: [ { from: 2026-12-01T09:00, to: 2026-12-02T09:00, person: bob } ]
policies:
  default:
    resend_after: 5s
    receipt_timeout: 30s
    ack_timeout: 120s
    ack_expires: 15m
    levels:
      - { to: [schedule:primary] }
      - { to: [person:bob] }
      - { to: [group:all], room: war@rooms.alert.example, after: 300s }
    repeat: { every: 120s, times: forever }
  quiet: { levels: [ { to: [group:backend] } ] }
routes:
  - { match: { severity: warn }, policy: quiet }
  - { match: { severity: crit }, policy: default }
silences:
  - { match: { subject: "b*" }, from: 2026-12-01T22:00, to: 2026-12-02T02:00, timezone: Europe/Zurich, reason: new disks }
webhooks:
  alice-hook: { url: "https://hooks.example/alice" }
xmpp: { jid: monitor@alert.example, passwordFile: xmpp.password, host: 127.0.0.1, port: 5223, caFile: ca.pem }
`;

function problemsOf(text: string, over: Record<string, unknown> = {}): string[] {
  const checked = checkMonitorSection({ ...(parse(text) as object), ...over }, NOW);
  return checked.ok ? [] : checked.problems.map(({ where, message }) => `${where}: ${message}`);
}

describe("the section monitor", () => {
  test("of the manual is fine, and becomes milliseconds", () => {
    const checked = checkMonitorSection(parse(GOOD), NOW);
    expect(problemsOf(GOOD)).toEqual([]);
    if (!checked.ok) return;
    expect(checked.paging.policies["default"]).toEqual({
      name: "default",
      resendAfterMs: 5_000,
      receiptTimeoutMs: 30_000,
      receiptTimeoutAwayMs: 10_000,
      ackTimeoutMs: 120_000,
      ackExpiresMs: 900_000,
      levels: [
        { to: ["schedule:primary"], room: null, afterMs: null },
        { to: ["person:bob"], room: null, afterMs: null },
        { to: ["group:all"], room: "war@rooms.alert.example", afterMs: 300_000 },
      ],
      repeatEveryMs: 120_000,
    });
    expect(checked.paging.silences[0]?.fromMs).toBe(Date.UTC(2026, 11, 1, 21));
  });

  test("may be left out, or name people only: then all are told of everything", () => {
    expect(checkMonitorSection(undefined, NOW).ok).toBe(true);
    const people = { bob: { jid: "bob@a.example" } };
    const xmpp = { jid: "m@a.example", passwordFile: "p" };
    const checked = checkMonitorSection({ people, xmpp }, NOW);
    expect(checked.ok && checked.paging.routes).toEqual([{ match: {}, policy: "default" }]);
    expect(checked.ok && checked.paging.policies["default"]?.levels).toEqual([
      { to: ["group:all"], room: null, afterMs: null },
    ]);
  });

  test("tells all problems at once, by path, also those of rows beside broken ones", () => {
    const problems = problemsOf(GOOD, {
      people: {
        alice: { jid: "alice" },
        bob: { jid: "bob@alert.example", fallback: [{ webhook: "nowhere" }] },
        rob: { jid: "BOB@alert.example" },
        room: { jid: "room@alert.example" },
      },
      schedules: {
        primary: {
          rotation: { start: "2026-01-05T09:00", every: "1 week", people: ["alice"] },
        },
        later: { rotation: { start: "2027-01-01T09:00", every: "P1D", people: ["carol"] } },
        never: {},
        moon: { timezone: "Moon/Base", rotation: { start: "x", every: "P1D", people: ["bob"] } },
      },
      routes: [{ match: { kind: "node" }, policy: "loud" }],
      silences: [{ match: {}, from: "2026-12-01T00:00", to: "2026-12-02T00:01" }],
      surprise: 1,
    });
    expect(problems.sort()).toEqual(
      [
        "monitor.people.alice.jid: must be an address like alice@alert.example",
        "monitor.people.bob.fallback.0.webhook: there is no webhook named nowhere",
        "monitor.people.rob.jid: is the address of bob already",
        "monitor.people.room: has a meaning of its own",
        "monitor.routes.0.policy: there is no policy named loud",
        "monitor.routes: no route takes every incident of severity crit",
        "monitor.schedules.later.rotation.people.0: there is no person named carol",
        "monitor.schedules.later: nobody is on call from 2026-11-21 12:00 until 2027-01-01 09:00 (UTC)",
        "monitor.schedules.moon.rotation.start: must be a date and time like 2026-01-05T09:00, without a zone",
        "monitor.schedules.moon.timezone: must be an IANA zone like Europe/Zurich",
        "monitor.schedules.never: nobody is on call from 2026-11-21 12:00 (UTC)",
        "monitor.schedules.primary.rotation.every: must be a duration like 30s, 15m or P7D",
        "monitor.silences.0.to: must be at most 24 h after from",
        "monitor.surprise: unknown key",
      ].sort(),
    );
  });

  test("does not let pages end before somebody answers", () => {
    const policies = { default: { levels: [{ to: ["group:all"] }], repeat: { times: 3 } } };
    expect(problemsOf(GOOD, { policies, routes: [] })).toEqual([
      "monitor.policies.default.repeat.times: must be one of forever",
    ]);
  });

  test("wants a way to each person", () => {
    expect(problemsOf(GOOD, { xmpp: undefined })).toEqual([
      "monitor.people.bob: cannot be told: neither xmpp is configured nor a webhook as fallback",
    ]);
  });

  test.each([
    null,
    [],
    "text",
    5,
    { people: [] },
    { people: { a: null } },
    { schedules: 7 },
  ])("of another shape is refused, not crashed on: %j", (raw) => {
    expect(checkMonitorSection(raw, NOW).ok).toBe(raw === null);
  });

  test("warns of people who never passed a drill", () => {
    const drill = { person: "bob", purpose: "drill", state: "passed" } as Drill;
    const handover = { person: "alice", purpose: "handover", state: "passed" } as Drill;
    expect(neverDrilled(["alice", "bob"], [drill, handover])).toEqual([
      {
        where: "monitor.people.alice",
        message: "never passed a drill: memward alert test alice",
      },
    ]);
  });
});

test.each([
  ["30s", 30_000],
  ["15m", 900_000],
  ["1h30m", 5_400_000],
  ["250ms", 250],
  ["2d", 172_800_000],
  ["PT30S", 30_000],
  ["P7D", 604_800_000],
  ["P1DT12H", 129_600_000],
  ["P2W", 1_209_600_000],
  ["", undefined],
  ["P", undefined],
  ["PT", undefined],
  ["30", undefined],
  ["-5s", undefined],
  ["1.5h", undefined],
  ["30s later", undefined],
])("the duration %j is %s ms", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each([
  [45_000, "45 s"],
  [360_000, "6 min"],
  [7_500_000, "2 h 5 min"],
  [7_200_000, "2 h"],
  [3 * 86_400_000, "3 d"],
])("%d ms are %s", (ms, text) => expect(durationText(ms)).toBe(text));

test.each([
  ["2026-01-05T09:00", Date.UTC(2026, 0, 5, 9)],
  ["2026-01-05", Date.UTC(2026, 0, 5)],
  ["2026-02-30T09:00", undefined],
  ["2026-01-05T25:00", undefined],
  ["2026-13-05T09:00", undefined],
  ["2026-01-05T09:00Z", undefined],
])("the local time %s", (text, ms) => expect(parseLocal(text)).toBe(ms));

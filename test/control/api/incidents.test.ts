/** Incidents over the admin API: read by all, changed by orders that a monitor obeys. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Incident, incidentId, incidentRecord } from "../../../core/cluster/incidents.ts";
import type { Change, Entry, Watch } from "../../../core/cluster/state.ts";
import { openRig, type Rig } from "./rig.ts";

let rig: Rig;
let watch: Watch | undefined;
beforeEach(async () => {
  rig = await openRig();
});
afterEach(async () => {
  watch?.close();
  await rig.close();
});

const NOW = 1_795_000_000_000;

function incident(number: number, over: Partial<Incident> = {}): Incident {
  return incidentRecord.parse({
    number,
    origin: "",
    key: "node:node-1",
    kind: "node",
    subject: "node-1",
    severity: "crit",
    summary: "node-1 slow",
    details: ["seen by 2/2 proxies"],
    state: "open",
    sinceMs: NOW,
    openedAtMs: NOW + 2_000 + number,
    pagingSinceMs: NOW,
    calmSinceMs: null,
    recoveringAtMs: null,
    resolvedAtMs: null,
    relapses: 0,
    ack: null,
    silence: null,
    explainedBy: null,
    policy: {
      name: "default",
      resendAfterMs: 5_000,
      receiptTimeoutMs: 30_000,
      receiptTimeoutAwayMs: 10_000,
      ackTimeoutMs: 120_000,
      ackExpiresMs: 900_000,
      levels: [{ to: ["person:alice"], room: null, afterMs: null }],
      repeatEveryMs: 120_000,
    },
    level: 0,
    deadlines: {
      escalateAtMs: NOW + 30_000,
      escalateReason: "unreached",
      groupAtMs: NOW + 300_000,
      repeatAtMs: null,
      ackExpiresAtMs: null,
      reopenAtMs: null,
    },
    seq: 1,
    notifications: [
      {
        seq: 1,
        purpose: "page",
        person: "alice",
        room: null,
        level: 0,
        round: 1,
        text: "level 1",
        state: "delivered",
        queuedAtMs: NOW,
        sentAtMs: NOW + 1,
        acceptedAtMs: NOW + 2,
        deliveredAtMs: NOW + 3,
        displayedAtMs: null,
        acknowledgedAtMs: null,
        dueAtMs: null,
        dueTo: "person",
        sendings: 1,
        bounces: 0,
        fallbackAtMs: null,
        fallbackTakenAtMs: null,
        devices: [
          {
            jid: "alice@alert.test/phone",
            sending: 1,
            sentAtMs: NOW + 1,
            acceptedAtMs: NOW + 2,
            deliveredAtMs: NOW + 3,
            displayedAtMs: null,
            bouncedAtMs: null,
          },
        ],
      },
    ],
    log: [{ atMs: NOW, event: "opened", person: "", text: "node-1 slow" }],
    logDropped: 0,
    handled: [],
    ...over,
  });
}

async function put(...changes: Change[]): Promise<void> {
  const commit = await rig.desk.state.commit(changes);
  if (!commit.ok) throw new Error(JSON.stringify(commit));
  await rig.desk.view.reached(commit.revision);
}
const opened = (number: number, over: Partial<Incident> = {}): Change => {
  const value = incident(number, over);
  return { kind: "incident", id: incidentId(value), value };
};

/** A monitor that obeys whatever it is told. */
async function speaker(obeyed: Entry<"order">["value"][] = []) {
  const value = { monitor: "m1", sinceMs: NOW, writes: 0 };
  await put({ kind: "speaker", id: "speaker", value });
  watch = rig.desk.state.watch(0, {
    changed: (seen) => {
      for (const one of seen) {
        if (one.kind !== "order" || one.value === null) continue;
        obeyed.push(one.value);
        void rig.desk.state.commit([{ kind: "order", id: one.id, value: null }]);
      }
    },
  });
  return obeyed;
}

test("incidents that are not over are listed, the newest first; all when asked for", async () => {
  const over = { state: "resolved", resolvedAtMs: NOW + 60_000 } as const;
  await put(opened(1, over), opened(2), opened(3, { origin: "m2" }));
  const open = (await rig.call("GET /v1/incidents", { as: "viewer" })).body.incidents;
  expect(open.map(({ id }: { id: string }) => id)).toEqual(["3@m2", "2"]);
  expect(open[1]).toMatchObject({ key: "node:node-1", level: 1, acknowledgedBy: null });
  expect(open[1].nextAt).toBe(new Date(NOW + 30_000).toISOString());
  const all = (await rig.call("GET /v1/incidents?all=true")).body.incidents;
  expect(all).toHaveLength(3);
});

test("one incident shows who was told, on which device, and when", async () => {
  await put(opened(17));
  for (const name of ["17", "%2317", "017"]) {
    const { status, body } = await rig.call(`GET /v1/incidents/${name}`, { as: "viewer" });
    expect(status).toBe(200);
    expect(body.notifications[0].devices[0]).toMatchObject({
      jid: "alice@alert.test/phone",
      deliveredAt: new Date(NOW + 3).toISOString(),
      displayedAt: null,
    });
    expect(body.log[0].event).toBe("opened");
  }
  for (const name of ["18", "x", "0", "17@"]) {
    expect((await rig.call(`GET /v1/incidents/${encodeURIComponent(name)}`)).status).toBe(404);
  }
});

describe("an order", () => {
  test("is answered when the monitor that speaks has obeyed", async () => {
    await put(opened(17));
    const obeyed = await speaker();
    const { status, body } = await rig.call("POST /v1/incidents/17/ack", { as: "operator" });
    expect(status).toBe(200);
    expect(body).toMatchObject({ verb: "ack", obeyed: true, monitor: "m1" });
    expect(obeyed).toMatchObject([{ verb: "ack", target: "0000000017", by: "token:the operator" }]);
    const audit = (await rig.call("GET /v1/audit")).body.records[0];
    expect(audit).toMatchObject({ action: "incident.ack", subject: "17" });
  });

  test("stays, and the answer says so, while no monitor speaks", async () => {
    await put(opened(17));
    const { status, body } = await rig.call("POST /v1/incidents/17/ack");
    expect(status).toBe(202);
    expect(body).toMatchObject({ obeyed: false, monitor: null });
    expect((await rig.desk.state.list("order")).entries).toHaveLength(1);
  });

  test("is refused for what is not there or over", async () => {
    const over = { state: "resolved", resolvedAtMs: NOW } as const;
    await put(opened(1, over));
    expect((await rig.call("POST /v1/incidents/2/ack")).status).toBe(404);
    expect((await rig.call("POST /v1/incidents/1/ack")).status).toBe(409);
    expect((await rig.call("POST /v1/people/nobody/drill")).status).toBe(404);
    const escalate = { body: { person: "nobody" } };
    await put(opened(3));
    expect((await rig.call("POST /v1/incidents/3/escalate", escalate)).status).toBe(404);
    expect((await rig.desk.state.list("order")).entries).toEqual([]);
  });

  test("needs an operator", async () => {
    await put(opened(17));
    expect((await rig.call("POST /v1/incidents/17/ack", { as: "viewer" })).status).toBe(403);
    expect((await rig.call("POST /v1/incidents/17/ack", { as: null })).status).toBe(401);
  });

  test.each([
    [
      "POST /v1/incidents/17/silence",
      { seconds: 60, text: "x" },
      { verb: "silence", durationMs: 60_000 },
    ],
    ["POST /v1/incidents/17/resolve", { text: "gone" }, { verb: "resolve", text: "gone" }],
    ["POST /v1/incidents/17/unack", undefined, { verb: "unack" }],
    ["POST /v1/incidents/17/note", { text: "looking" }, { verb: "note", text: "looking" }],
    ["POST /v1/incidents/17/escalate", { person: "bob" }, { verb: "escalate", person: "bob" }],
    ["POST /v1/silences", { key: "node:n", seconds: 5 }, { verb: "silence", target: "node:n" }],
    ["DELETE /v1/silences/node%3An%2F1", undefined, { verb: "unsilence", target: "node:n/1" }],
    ["POST /v1/people/bob/drill", undefined, { verb: "drill", person: "bob" }],
  ])("%s says all that the monitor needs", async (line, body, wanted) => {
    const person = {
      reachability: "unknown" as const,
      sinceMs: NOW,
      onCall: [],
      devices: [],
      lastReceiptAtMs: null,
    };
    await put(opened(17), { kind: "person", id: "bob", value: person });
    const obeyed = await speaker();
    const { status } = await rig.call(line, body === undefined ? {} : { body });
    expect(status).toBe(200);
    expect(obeyed[0]).toMatchObject(wanted);
  });

  test.each([
    ["silence", { seconds: 90_000 }],
    ["silence", {}],
    ["note", { text: "" }],
    ["note", { text: "x".repeat(501) }],
    ["resolve", { txt: "typo" }],
  ])("%s with bad input is refused", async (verb, body) => {
    await put(opened(17));
    expect((await rig.call(`POST /v1/incidents/17/${verb}`, { body })).status).toBe(400);
  });
});

test("monitors, people and the status tell who speaks and who can be reached", async () => {
  const monitor = { pid: 1, startedAtMs: NOW, xmppIsUp: true, seenAtMs: NOW };
  const person = {
    reachability: "reachable" as const,
    sinceMs: NOW,
    onCall: ["primary"],
    devices: [{ jid: "alice@a/phone", priority: 5, roundTripMs: 2.4, misses: 0 }],
    lastReceiptAtMs: NOW,
  };
  await put(
    { kind: "monitor", id: "m1", value: monitor },
    { kind: "monitor", id: "m2", value: { ...monitor, xmppIsUp: null } },
    { kind: "person", id: "alice", value: person },
    opened(17),
  );
  const before = (await rig.call("GET /v1/people")).body.people;
  expect(before[0].reachability).toBe("unknown"); // Nobody speaks, so nobody knows.
  await speaker();
  const { people } = (await rig.call("GET /v1/people")).body;
  expect(people[0]).toMatchObject({
    name: "alice",
    reachability: "reachable",
    onCall: ["primary"],
  });
  const { monitors } = (await rig.call("GET /v1/monitors")).body;
  expect(monitors.map((one: { name: string; speaks: boolean }) => [one.name, one.speaks])).toEqual([
    ["m1", true],
    ["m2", false],
  ]);
  const status = (await rig.call("GET /v1/status")).body;
  expect(status.incidents).toHaveLength(1);
  expect(status.monitors).toHaveLength(2);
  const { drills } = (await rig.call("GET /v1/people/alice/drills")).body;
  expect(drills).toEqual([]);
});

/** `memward incident` and its neighbours against scripted answers: what is asked, shown, returned. */
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { FakeApi, type Ran, run } from "./fakeApi.ts";

const api = new FakeApi();
beforeAll(() => api.start());
afterAll(() => api.stop());
beforeEach(() => {
  api.asked.length = 0;
  api.says = [{ body: {} }];
  vi.unstubAllEnvs();
  vi.stubEnv("MEMWARD_TOKEN", "mwt_abcdefghijkm_abcdefghijkmnpqrstuvwxyz23456789");
  vi.stubEnv("MEMWARD_CONTROL", api.url);
});
afterAll(() => vi.unstubAllEnvs());

const memward = (line: string): Promise<Ran> => run(line.split(" "));

const INCIDENT = {
  id: "17",
  key: "node:node-1",
  severity: "crit",
  state: "open",
  summary: "node-1 slow (30% of operations > 5 ms)",
  since: "2026-11-21T14:02:03.000Z",
  openedAt: "2026-11-21T14:02:05.000Z",
  resolvedAt: null,
  acknowledgedBy: null,
  acknowledgedUntil: null,
  silencedUntil: null,
  explainedBy: null,
  level: 1,
  nextAt: null,
  revision: 7,
};
const OBEYED = { order: "o", verb: "ack", obeyed: true, monitor: "monitor-1" };

describe("what is asked of the API:", () => {
  test.each([
    ["incident list", "GET /v1/incidents", undefined],
    ["incident list --all", "GET /v1/incidents?all=true", undefined],
    ["incident show 17", "GET /v1/incidents/17", undefined],
    ["incident show #17@m2", "GET /v1/incidents/17%40m2", undefined],
    ["incident ack 17", "POST /v1/incidents/17/ack", undefined],
    ["incident unack 17", "POST /v1/incidents/17/unack", undefined],
    ["incident resolve 17", "POST /v1/incidents/17/resolve", {}],
    [
      "incident resolve 17 was the switch",
      "POST /v1/incidents/17/resolve",
      { text: "was the switch" },
    ],
    ["incident silence 17 --for 30m", "POST /v1/incidents/17/silence", { seconds: 1800 }],
    ["incident escalate 17", "POST /v1/incidents/17/escalate", {}],
    ["incident escalate 17 bob", "POST /v1/incidents/17/escalate", { person: "bob" }],
    ["incident note 17 looking at it", "POST /v1/incidents/17/note", { text: "looking at it" }],
    ["silence list", "GET /v1/silences", undefined],
    [
      "silence create node:node-1 --for 2h",
      "POST /v1/silences",
      { key: "node:node-1", seconds: 7200 },
    ],
    ["silence delete shard:c1/n", "DELETE /v1/silences/shard%3Ac1%2Fn", undefined],
    ["people", "GET /v1/people", undefined],
    ["monitors", "GET /v1/monitors", undefined],
  ])("%s", async (line, asked, body) => {
    api.says = [{ body: OBEYED }];
    await memward(line);
    expect(api.asked.map(({ method, path }) => `${method} ${path}`)).toEqual([asked]);
    expect(api.asked[0]?.body).toEqual(body);
  });
});

test("incidents are a table, or what the API answers", async () => {
  api.says = [{ body: { incidents: [INCIDENT] } }];
  const { stdout, code } = await memward("incident list");
  expect(code).toBe(0);
  expect(stdout).toMatch(/^INCIDENT {2}SEVERITY {2}STATE/);
  expect(stdout).toMatch(/^17 +crit +open .*node-1 slow/m);
  const json = await memward("incident list --json");
  expect(JSON.parse(json.stdout).incidents[0].id).toBe("17");
});

test("an incident shows its timeline per person and device", async () => {
  const device = {
    jid: "alice@a/phone",
    sentAt: "2026-11-21T14:02:05.010Z",
    acceptedAt: "2026-11-21T14:02:05.012Z",
    deliveredAt: "2026-11-21T14:02:05.015Z",
    displayedAt: null,
    bouncedAt: null,
  };
  const one = {
    ...device,
    person: "alice",
    room: null,
    state: "acknowledged",
    queuedAt: "2026-11-21T14:02:05.005Z",
    acknowledgedAt: "2026-11-21T14:02:31.000Z",
    devices: [device],
  };
  const log = [{ at: "2026-11-21T14:02:05.000Z", event: "opened", person: "", text: "slow" }];
  const more = { details: ["seen by 3/3 proxies"], policy: "default", notifications: [one], log };
  api.says = [{ body: { ...INCIDENT, ...more, logDropped: 0 } }];
  const { stdout } = await memward("incident show 17");
  expect(stdout).toContain("seen by 3/3 proxies");
  expect(stdout).toMatch(/^WHO +DEVICE +STATE +QUEUED +SENT +ACCEPTED +DELIVERED +DISPLAYED +ACK/m);
  expect(stdout).toMatch(/^alice +\S+ +acknowledged +14:02:05\.005 .* 14:02:31\.000$/m);
  expect(stdout).toMatch(/alice@a\/phone.*14:02:05\.015/);
  expect(stdout).toMatch(/^14:02:05\.000 +opened/m);
});

describe("an order", () => {
  test("that was obeyed says by whom", async () => {
    api.says = [{ body: OBEYED }];
    const { code, stdout } = await memward("incident ack 17");
    expect(code).toBe(0);
    expect(stdout).toBe("ack: done by monitor-1\n");
  });

  test.each([
    [null, "no monitor speaks now"],
    ["monitor-1", "monitor-1 has not done it yet"],
  ])("that nobody has obeyed (%s) is told, with exit code 7", async (monitor, sentence) => {
    api.says = [{ status: 202, body: { ...OBEYED, obeyed: false, monitor } }];
    const { code, stderr, stdout } = await memward("incident ack 17");
    expect(code).toBe(7);
    expect(stderr).toContain(sentence);
    expect(stdout).toBe("");
  });

  test("about what is not there ends with exit code 4", async () => {
    const problem = { title: "Not Found", status: 404, detail: "there is no incident 99" };
    api.says = [{ status: 404, type: "application/problem+json", body: problem }];
    const { code, stderr } = await memward("incident ack 99");
    expect([code, stderr.trim()]).toEqual([4, "there is no incident 99"]);
  });

  test.each([
    "incident ack",
    "incident silence 17",
    "incident note 17",
    "incident silence 17 --for x",
  ])("%s lacks something and is refused here", async (line) => {
    const { code } = await memward(line);
    expect(code).toBe(2);
    expect(api.asked).toEqual([]);
  });
});

describe("a drill", () => {
  const drill = { id: "alice/2", purpose: "drill", by: "x", startedAt: "2026-11-21T14:00:00.000Z" };

  test("waits for receipt and answer, and tells both", async () => {
    api.says = [
      { body: { drills: [] } },
      { body: { ...OBEYED, verb: "drill" } },
      { body: { drills: [{ ...drill, state: "waiting", receiptMs: 41, answerMs: null }] } },
      { body: { drills: [{ ...drill, state: "passed", receiptMs: 41, answerMs: 6_200 }] } },
    ];
    const { code, stdout, stderr } = await memward("alert test alice");
    expect(code).toBe(0);
    expect(stdout).toMatch(/receipt +after 41 ms/);
    expect(stdout).toMatch(/answer +after 6200 ms/);
    expect(stderr).toContain("alice's device had it after 41 ms");
  });

  test("that nobody answered ends with exit code 7", async () => {
    api.says = [
      {
        body: { drills: [{ ...drill, id: "alice/1", state: "passed", receiptMs: 1, answerMs: 2 }] },
      },
      { body: { ...OBEYED, verb: "drill" } },
      { body: { drills: [{ ...drill, state: "unreached", receiptMs: null, answerMs: null }] } },
    ];
    const { code, stdout } = await memward("alert test alice");
    expect(code).toBe(7);
    expect(stdout).toMatch(/drill +unreached/);
  });
});

test("status shows monitors and what is wrong", async () => {
  const monitor = { name: "m1", speaks: true, xmppIsUp: true, startedAt: "", seenAt: "" };
  api.says = [{ body: { proxies: [], nodes: [], monitors: [monitor], incidents: [INCIDENT] } }];
  const { clusterStatus } = await import("../../cli/status.ts");
  let shown = "";
  const write = vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    shown += text;
    return true;
  });
  const code = await clusterStatus({ control: api.url, json: false, dataDir: "x" } as never);
  write.mockRestore();
  expect(code).toBe(0);
  expect(shown).toMatch(/^monitor +m1 +yes .*speaks to people/m);
  expect(shown).toMatch(/^17 +crit/m);
});

/**
 * A control process is killed before or after any of its writes; the platform asks again. What it
 * is told then, and what is in the state, is as if nothing had happened.
 */
import { afterEach, expect, test } from "vitest";
import type { ClusterState } from "../../../core/cluster/state.ts";
import { openPlatform, type Platform, type Reply } from "./platform.ts";

const INSTANCE = "/v2/service_instances/order-1";
const BINDING = `${INSTANCE}/service_bindings/app-1`;

type Step = [name: string, ask: (platform: Platform) => Promise<Reply>];
const bindTo =
  (url: string) =>
  (it: Platform): Promise<Reply> =>
    it.ask("PUT", url, { body: it.ids("100mb") });
const STEPS: readonly Step[] = [
  ["provision", (it) => it.ask("PUT", INSTANCE, { body: it.order() })],
  ["update", (it) => it.ask("PATCH", INSTANCE, { body: it.ids("100mb") })],
  ["bind", bindTo(BINDING)],
  ["bind another", bindTo(`${BINDING}-2`)],
  ["unbind", (it) => it.ask("DELETE", BINDING + it.query("100mb"))],
  ["deprovision", (it) => it.ask("DELETE", INSTANCE + it.query("100mb"))],
];
/** What asking again may answer, beside what asking once does. */
const ALSO = { provision: 200, update: 200, bind: 200, unbind: 410, deprovision: 410 };

/** Fails as a killed process does: the write is there or not, and nothing comes after it. */
function killable(state: ClusterState) {
  let killAt = 0;
  let isAfter = false;
  let writes = 0;
  let isDead = false;
  const commit: ClusterState["commit"] = async (changes) => {
    if (isDead) throw new Error("killed");
    writes++;
    isDead = writes === killAt;
    if (isDead && !isAfter) throw new Error("killed");
    const result = await state.commit(changes);
    if (isDead) throw new Error("killed");
    return result;
  };
  const wrapped = new Proxy(state, {
    get: (target, key) => {
      if (key === "commit") return commit;
      const value: unknown = Reflect.get(target, key);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const arm = (at: number, after: boolean): void => {
    [killAt, isAfter, writes] = [at, after, 0];
  };
  return { wrapped, arm, wasKilled: () => isDead };
}

const open: Platform[] = [];
afterEach(async () => {
  for (const platform of open.splice(0)) await platform.close();
});

test.each(
  STEPS.flatMap((_, step) =>
    [false, true].map((after) => ({ step, after, name: STEPS[step]?.[0] })),
  ),
)("killed while it does $name (after the write: $after)", async ({ step, after }) => {
  for (let write = 1; ; write++) {
    let killer: ReturnType<typeof killable> | undefined;
    const platform = await openPlatform({
      wrap: (state) => {
        killer = killable(state);
        return killer.wrapped;
      },
    });
    open.push(platform);
    let expected = 0;
    for (const [index, [, ask]] of STEPS.entries()) {
      if (index === step) killer?.arm(write, after);
      const reply = await ask(platform);
      expected = reply.status;
      if (index === step) break;
    }
    if (killer?.wasKilled() !== true) {
      expect(write).toBeGreaterThan(1);
      return; // It did not come to so many writes: all have been tried.
    }
    expect(expected).toBe(500);
    const again = await openPlatform({ path: platform.desk.path });
    open.push(again);
    again.tokens.operator = platform.tokens.operator;
    await rest(again, step);
    await complete(again);
  }
});

async function rest(platform: Platform, step: number): Promise<void> {
  for (const [name, ask] of STEPS.slice(step)) {
    const reply = await ask(platform);
    const kind = name.split(" ")[0] as keyof typeof ALSO;
    const first = kind === "provision" || kind === "bind" ? 201 : 200;
    expect([first, ALSO[kind]], name).toContain(reply.status);
    if (kind === "bind") {
      expect((await ask(platform)).body).toEqual(reply.body);
    }
  }
}

/** Nothing is left, and the audit log tells of each thing exactly once. */
async function complete({ desk }: Platform): Promise<void> {
  for (const kind of [
    "cache",
    "cacheName",
    "credential",
    "serviceInstance",
    "serviceBinding",
  ] as const) {
    expect((await desk.state.list(kind)).entries, kind).toEqual([]);
  }
  const { entries } = await desk.state.list("audit");
  const actions = entries.map(({ value }) => value.action).sort();
  expect(actions.filter((action) => !action.startsWith("token."))).toEqual(
    [
      "cache.create",
      "instance.create",
      "cache.change",
      "instance.update",
      ...["credential.create", "binding.create", "credential.create", "binding.create"],
      ...["credential.delete", "binding.delete", "credential.delete", "binding.delete"],
      "cache.delete",
      "instance.delete",
    ].sort(),
  );
}

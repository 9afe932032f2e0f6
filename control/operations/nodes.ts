/** What runs: nodes, proxies, and the whole in one answer. */
import { z } from "zod";
import type { View } from "../view.ts";
import { type Context, change, outdated, type Parts } from "./change.ts";
import { incidentAnswer, listIncidents, listMonitors, monitorAnswer } from "./incidents.ts";
import { momentText } from "./input.ts";
import { notFound, type Outcome } from "./outcome.ts";

/** More of them at once are one incident to a person. */
const INCIDENTS_LENGTH_MAX = 100;

export const nodeAnswer = z.strictObject({
  name: z.string(),
  engine: z.string(),
  weight: z.int(),
  zone: z.string(),
  ready: z.boolean(),
  draining: z.boolean().describe("Its shards go to other nodes"),
  startedAt: z.string(),
  shards: z.int(),
  bytes: z.int().describe("Size of its shards together"),
});
export type ShownNode = z.output<typeof nodeAnswer>;

export const proxyAnswer = z.strictObject({
  name: z.string(),
  addresses: z.array(z.string()),
  ready: z.boolean(),
  appliedRevision: z.int(),
  startedAt: z.string(),
  sessions: z.int().describe("Logged in, over all caches"),
});
export type ShownProxy = z.output<typeof proxyAnswer>;

export const statusAnswer = z.strictObject({
  version: z.string(),
  revision: z.int(),
  stateReachable: z.boolean(),
  caches: z.int(),
  credentials: z.int(),
  nodes: z.array(nodeAnswer),
  proxies: z.array(proxyAnswer),
  monitors: z.array(monitorAnswer),
  incidents: z.array(incidentAnswer).describe("Those that are not over, the newest first"),
});
export type Status = z.output<typeof statusAnswer>;

type Seeing = Pick<Parts, "view">;

export function listNodes({ view }: Seeing): ShownNode[] {
  const shards = [...view.shards.values()];
  return inOrder(view.nodes).map(({ id, value }) => {
    const { engine, weight, zone, ready, startedAtMs } = value;
    const own = shards.filter(({ value: { node, stamp } }) => node === id && stamp === "");
    return {
      name: id,
      engine,
      weight,
      zone,
      ready,
      draining: view.nodeSettings.get(id)?.value.draining === true,
      startedAt: momentText(startedAtMs),
      shards: own.length,
      bytes: own.reduce((sum, shard) => sum + shard.value.bytes, 0),
    };
  });
}

export const nodeChangeInput = z.strictObject({
  draining: z.boolean().describe("true: its shards go to other nodes; false: it gets some again"),
});

/** A node that is away can be drained, too: then its keys go to others for good. */
export async function changeNode(
  parts: Parts,
  context: Context,
  name: string,
  { draining }: z.output<typeof nodeChangeInput>,
): Promise<Outcome<{ name: string; draining: boolean; revision: number }>> {
  const { state, view } = parts;
  return change(parts, context, async () => {
    const isKnown = view.nodes.has(name) || hasShards(view, name) || view.nodeSettings.has(name);
    if (!isKnown) return notFound(`there is no node ${JSON.stringify(name)}`);
    const found = await state.get("nodeSetting", name);
    const stale = outdated(context, { id: name, revision: found?.revision ?? 0 });
    if (stale !== undefined) return stale;
    const before = found?.value ?? { draining: false };
    const value = { ...before, draining };
    const isSame = before.draining === draining;
    const expected = found?.revision ?? 0;
    return {
      ok: true,
      revision: expected,
      changes: isSame ? [] : [{ kind: "nodeSetting", id: name, value, expected }],
      audit: { action: "node.change", cache: "", subject: name, before, after: value },
      value: (revision) => ({ name, draining, revision }),
    };
  });
}

const hasShards = (view: View, node: string): boolean =>
  [...view.shards.values()].some(({ value }) => value.node === node && value.stamp === "");

export function listProxies({ view }: Seeing): ShownProxy[] {
  const sessions = new Map<string, number>();
  for (const { id, value } of view.usage.values()) {
    const proxy = id.slice(id.lastIndexOf("/") + 1);
    sessions.set(proxy, (sessions.get(proxy) ?? 0) + value.sessions);
  }
  return inOrder(view.proxies).map(({ id, value }) => {
    const { addresses, ready, appliedRevision, startedAtMs } = value;
    const startedAt = momentText(startedAtMs);
    const count = sessions.get(id) ?? 0;
    return { name: id, addresses, ready, appliedRevision, startedAt, sessions: count };
  });
}

export function showStatus(
  { view }: Seeing,
  { version, stateReachable }: { version: string; stateReachable: boolean },
): Status {
  return {
    version,
    revision: view.revision,
    stateReachable,
    caches: view.caches.size,
    credentials: view.credentials.size,
    nodes: listNodes({ view }),
    proxies: listProxies({ view }),
    monitors: listMonitors({ view }),
    incidents: listIncidents({ view }, { all: false }).slice(0, INCIDENTS_LENGTH_MAX),
  };
}

function inOrder<T extends { id: string }>(map: ReadonlyMap<string, T>): T[] {
  return [...map.values()].sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }));
}

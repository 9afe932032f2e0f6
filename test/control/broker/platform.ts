/** A platform in front of the broker: real requests through the server, on a desk of its own. */
import fastify, { type FastifyInstance } from "fastify";
import { brokerApi } from "../../../control/broker/api.ts";
import { type Catalog, catalogOf } from "../../../control/broker/catalog.ts";
import { Gate } from "../../../control/gate.ts";
import { createToken } from "../../../control/operations/tokens.ts";
import type { OperatorRole } from "../../../core/cluster/records.ts";
import type { ClusterState } from "../../../core/cluster/state.ts";
import { type Desk, OPERATOR, openDesk, resultOf } from "../operations/desk.ts";

export const KEY: Buffer = Buffer.alloc(32, 7);
export const VERSION = { "x-broker-api-version": "2.17" };

export type Reply = {
  status: number;
  body: Record<string, unknown>;
  headers: Record<string, unknown>;
};
export type Ask = (
  method: "GET" | "PUT" | "PATCH" | "DELETE",
  url: string,
  more?: { body?: unknown; headers?: Record<string, string>; token?: string | null; raw?: string },
) => Promise<Reply>;

export type Platform = {
  desk: Desk;
  catalog: Catalog;
  ask: Ask;
  tokens: Record<OperatorRole, string>;
  /** What every provision request has to hold, with a plan by name. */
  order(plan?: string, more?: Record<string, unknown>): Record<string, unknown>;
  ids(plan?: string): { service_id: string; plan_id: string };
  query(plan?: string): string;
  close(): Promise<void>;
};

/** With `path` it is a restart: the state and its tokens are there already. */
export async function openPlatform({
  wrap = (state: ClusterState): ClusterState => state,
  path,
  key = KEY,
}: {
  wrap?: (state: ClusterState) => ClusterState;
  path?: string;
  key?: Buffer;
} = {}): Promise<Platform> {
  const options = path === undefined ? { wrap } : { wrap, path };
  const desk = await openDesk(options);
  const catalog = catalogOf(desk.plans, "memward");
  const server: FastifyInstance = fastify();
  await server.register(brokerApi, {
    broker: { parts: desk, catalog, key },
    gate: new Gate(desk),
  });
  const tokens = { viewer: "", operator: "", owner: "" };
  for (const role of ["viewer", "operator", "owner"] as const) {
    if (path !== undefined) break;
    tokens[role] = resultOf(await createToken(desk, OPERATOR, { name: role, role })).token;
  }
  const ids = (plan = "25mb"): { service_id: string; plan_id: string } => {
    const found = [...catalog.planById].find(([, { name }]) => name === plan);
    if (found === undefined) throw new Error(`no plan ${plan}`);
    return { service_id: catalog.serviceId, plan_id: found[0] };
  };
  const ask: Ask = async (method, url, { body, headers = VERSION, token, raw } = {}) => {
    const login = token === null ? {} : { authorization: basic(token ?? tokens.operator) };
    const sent = raw ?? (body === undefined ? undefined : JSON.stringify(body));
    const type = sent === undefined ? {} : { "content-type": "application/json" };
    const reply = await server.inject({
      method,
      url,
      headers: { ...type, ...login, ...headers },
      ...(sent === undefined ? {} : { payload: sent }),
    });
    return { status: reply.statusCode, body: reply.json(), headers: reply.headers };
  };
  return {
    desk,
    catalog,
    ask,
    tokens,
    order: (plan, more = {}) => ({
      ...ids(plan),
      organization_guid: "org",
      space_guid: "space",
      context: { platform: "cloudfoundry", instance_name: "shop" },
      ...more,
    }),
    ids,
    query: (plan) => `?${new URLSearchParams(ids(plan))}`,
    close: async () => {
      await server.close();
      await desk.close();
    },
  };
}

export const basic = (password: string, username = "platform"): string =>
  `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;

/** The admin API in this process, on a real cluster state; every answer is held to its schema. */
import type { FastifyInstance } from "fastify";
import { createApi } from "../../../control/api/server.ts";
import { Gate } from "../../../control/gate.ts";
import { RequestCounters } from "../../../control/metrics.ts";
import { createToken } from "../../../control/operations/tokens.ts";
import { Reach } from "../../../control/reach.ts";
import type { OperatorRole } from "../../../core/cluster/records.ts";
import type { ClusterState } from "../../../core/cluster/state.ts";
import { type Desk, OPERATOR, openDesk, resultOf } from "../operations/desk.ts";

export type Answer = {
  status: number;
  headers: Record<string, string | undefined>;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: answers are what is being looked at.
  body: any;
};
export type Request = {
  as?: OperatorRole | null;
  login?: { username: string; password: string };
  body?: unknown;
  headers?: Record<string, string>;
  from?: string;
};

export type Rig = {
  desk: Desk;
  reach: Reach;
  server: FastifyInstance;
  tokens: Record<OperatorRole, string>;
  /** `call("GET /v1/caches")`, as an owner unless told otherwise. */
  call(line: string, request?: Request): Promise<Answer>;
  close(): Promise<void>;
};

export async function openRig(wrap?: (state: ClusterState) => ClusterState): Promise<Rig> {
  const desk = await openDesk(wrap === undefined ? {} : { wrap });
  const reach = new Reach(desk);
  const server = await createApi({
    desk: { parts: desk, version: "0.0.0", awayMs: () => reach.awayMs() },
    gate: new Gate(desk),
    counters: new RequestCounters(),
    log: desk.log,
    checkAnswers: true,
  });
  const tokens = { viewer: "", operator: "", owner: "" };
  for (const role of Object.keys(tokens) as OperatorRole[]) {
    const made = await createToken(desk, OPERATOR, { name: `the ${role}`, role });
    tokens[role] = resultOf(made).token;
  }
  const call: Rig["call"] = async (line, request = {}) => {
    const [method, url] = line.split(" ");
    const { as = "owner", login, body, from = "192.0.2.7" } = request;
    const basic = Buffer.from(`${login?.username}:${login?.password}`).toString("base64");
    const authorization = login ? `Basic ${basic}` : as ? `Bearer ${tokens[as]}` : undefined;
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const response = await server.inject({
      method: method as "GET",
      url: url ?? "",
      remoteAddress: from,
      headers: {
        ...(authorization === undefined ? {} : { authorization }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...request.headers,
      },
      ...(text === undefined ? {} : { payload: text }),
    });
    const isJson = String(response.headers["content-type"]).includes("json");
    return {
      status: response.statusCode,
      headers: response.headers as Answer["headers"],
      text: response.body,
      body: isJson ? JSON.parse(response.body) : undefined,
    };
  };
  const close = async (): Promise<void> => {
    await server.close();
    await desk.close();
  };
  return { desk, reach, server, tokens, call, close };
}

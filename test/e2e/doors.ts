/**
 * The HTTP APIs for platforms and scripts, beside a running instance: on its cluster state, on a
 * port of their own, with a key in its data directory.
 */
import { join } from "node:path";
import fastify from "fastify";
import { brokerApi } from "../../control/broker/api.ts";
import { catalogOf } from "../../control/broker/catalog.ts";
import { openBrokerKey } from "../../control/broker/key.ts";
import { memcachierApi } from "../../control/memcachier/api.ts";
import { createToken, tokenBehind } from "../../control/operations/tokens.ts";
import { verify } from "../../core/cluster/credentials.ts";
import { OPERATOR, openDesk, resultOf } from "../control/operations/desk.ts";
import type { Memward } from "../harness/memward.ts";

export type Doors = { url: string; token: string; close(): Promise<void> };

export async function openDoors(memward: Memward): Promise<Doors> {
  const desk = await openDesk({ path: join(memward.dataDir, "state.db") });
  const parts = { ...desk, servers: memward.servers };
  const server = fastify();
  await server.register(brokerApi, {
    broker: {
      parts,
      catalog: catalogOf(parts.plans, "memward"),
      key: openBrokerKey(join(memward.dataDir, "broker.key")),
    },
    operatorOf: async (token) => tokenBehind(desk.view, token, Date.now())?.value ?? 401,
  });
  await server.register(memcachierApi, {
    parts,
    credentialOf: async ({ username, password }) => {
      const found = await desk.state.get("credential", username);
      const isRight = verify(found?.value.digest, Buffer.from(password));
      return found !== undefined && isRight ? { username, ...found.value } : 401;
    },
  });
  const made = resultOf(await createToken(desk, OPERATOR, { name: "cf", role: "operator" }));
  const url = await server.listen({ host: "127.0.0.1", port: 0 });
  return {
    url,
    token: made.token,
    close: async () => {
      await server.close();
      await desk.close();
    },
  };
}

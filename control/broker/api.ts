/**
 * The Open Service Broker API 2.17 (https://www.openservicebrokerapi.org) under /v2/: with it a
 * Cloud Foundry or a Kubernetes service catalog offers caches of ours. Everything is answered when
 * it is done, so nothing is ever polled for. Sections are named as in the specification.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { StateUnavailable } from "../../core/cluster/state.ts";
import { basicLogin } from "../basic.ts";
import { addressOf, type Gate } from "../gate.ts";
import { bind, fetchBinding, unbind } from "./bindings.ts";
import { type Answer, type Asker, answer, type Broker, failure } from "./broker.ts";
import { isVersionServed, originatingIdentity, requestIdentity } from "./headers.ts";
import { deprovision, fetchInstance, provision, update } from "./instances.ts";

/** "URL Properties": the characters that it recommends, and room for both in one id. */
const ID_PATTERN = /^[A-Za-z0-9._~-]{1,95}$/;
const BODY_SIZE_MAX = 256 * 1024;

export interface BrokerDoor {
  readonly broker: Broker;
  readonly gate: Pick<Gate, "operatorOf" | "retryAfterSeconds">;
}

interface Admitted {
  readonly asker: Asker;
  readonly instance: string;
  readonly binding: string;
}
interface Asked extends Admitted {
  readonly body: unknown;
  readonly query: unknown;
}
type Run = (broker: Broker, asked: Asked) => Promise<Answer>;

const INSTANCE = "/v2/service_instances/:instance";
const BINDING = `${INSTANCE}/service_bindings/:binding`;
/** Whoever polls after an answer that was complete: it is there, or it is gone. */
const lastOperation = async (fetched: Promise<Answer>): Promise<Answer> =>
  (await fetched).status === 404 ? answer(410) : answer(200, { state: "succeeded" });

const ROWS: readonly { method: "GET" | "PUT" | "PATCH" | "DELETE"; url: string; run: Run }[] = [
  { method: "GET", url: "/v2/catalog", run: async ({ catalog }) => answer(200, catalog.body) },
  { method: "PUT", url: INSTANCE, run: (b, it) => provision(b, it.asker, it.instance, it.body) },
  { method: "PATCH", url: INSTANCE, run: (b, it) => update(b, it.asker, it.instance, it.body) },
  { method: "GET", url: INSTANCE, run: (b, it) => fetchInstance(b, it.instance) },
  {
    method: "DELETE",
    url: INSTANCE,
    run: (b, it) => deprovision(b, it.asker, it.instance, it.query),
  },
  {
    method: "GET",
    url: `${INSTANCE}/last_operation`,
    run: (b, it) => lastOperation(fetchInstance(b, it.instance)),
  },
  { method: "PUT", url: BINDING, run: (b, it) => bind(b, it.asker, it, it.body) },
  { method: "GET", url: BINDING, run: (b, it) => fetchBinding(b, it) },
  { method: "DELETE", url: BINDING, run: (b, it) => unbind(b, it.asker, it, it.query) },
  {
    method: "GET",
    url: `${BINDING}/last_operation`,
    run: (b, it) => lastOperation(fetchBinding(b, it)),
  },
];

/** Registers the API on a server; a plugin of its own, so that its errors look as specified. */
export async function brokerApi(server: FastifyInstance, door: BrokerDoor): Promise<void> {
  // Some platforms say that there is JSON also where there is no body.
  const parseJson = server.getDefaultJsonParser("error", "error");
  server.removeContentTypeParser("application/json");
  server.addContentTypeParser("application/json", { parseAs: "string" }, (request, body, done) => {
    if (body.length === 0) done(null, undefined);
    else parseJson(request, String(body), done);
  });
  server.setErrorHandler((error, request, reply) => send(reply, problemOf(error, request)));
  server.addHook("onRequest", async (request, reply) => {
    reply.header("cache-control", "no-store");
    const identity = requestIdentity(request.headers["x-broker-api-request-identity"]);
    if (identity !== undefined) reply.header("x-broker-api-request-identity", identity);
  });
  const admissions = new WeakMap<FastifyRequest, Admitted>();
  for (const { method, url, run } of ROWS) {
    server.route({
      method,
      url,
      bodyLimit: BODY_SIZE_MAX,
      // Before the body is read: strangers get nothing parsed.
      onRequest: async (request, reply) => {
        const found = await admitted(door, request);
        if ("status" in found) return refuse(door, request, reply, found);
        admissions.set(request, found);
      },
      handler: async (request, reply) => {
        const found = admissions.get(request);
        if (found === undefined) throw new Error("a request that nobody admitted");
        const { body = {}, query } = request;
        return send(reply, await run(door.broker, { ...found, body, query }));
      },
    });
  }
}

function send(reply: FastifyReply, { status, body }: Answer): FastifyReply {
  return reply.code(status).send(body);
}

function refuse({ gate }: BrokerDoor, request: FastifyRequest, reply: FastifyReply, why: Answer) {
  if (why.status === 401) reply.header("www-authenticate", 'Basic realm="memward broker"');
  if (why.status === 429) {
    reply.header("retry-after", String(gate.retryAfterSeconds(addressOf(request))));
  }
  return send(reply, why);
}

/** Who may come in: login first, then what the headers and ids say. */
async function admitted({ gate }: BrokerDoor, request: FastifyRequest): Promise<Admitted | Answer> {
  const token = basicLogin(request.headers.authorization)?.password;
  if (token === undefined) return failure(401, "log in: any username, an operator's token");
  const from = addressOf(request);
  const operator = await gate.operatorOf(token, from);
  if (operator === 429) return failure(429, "too many wrong logins from this address; wait");
  if (typeof operator === "number") return failure(operator, "this token is not accepted");
  if (operator.role === "viewer") return failure(401, "this token may only look");
  if (!isVersionServed(request.headers["x-broker-api-version"])) {
    return failure(412, "X-Broker-API-Version has to be 2.x; 2.17 is spoken here");
  }
  const identity = originatingIdentity(request.headers["x-broker-api-originating-identity"]);
  if (typeof identity === "string") return failure(400, identity);
  const { instance = "", binding = "" } = request.params as Record<string, string | undefined>;
  for (const id of Object.values(request.params as Record<string, string>)) {
    if (!ID_PATTERN.test(id)) {
      return failure(400, "ids have 1 to 95 letters, digits, hyphens, periods, _ or ~");
    }
  }
  const asker = { actor: `broker:${operator.name}`, from, identity };
  return { asker, instance, binding };
}

/** What went wrong before or beside the request's own work. */
function problemOf(error: unknown, request: FastifyRequest): Answer {
  if (error instanceof StateUnavailable) {
    return failure(503, `nothing can be changed now: ${error.message}`);
  }
  const { statusCode = 500, message } = error as { statusCode?: number; message: string };
  // "Content Type": a body that cannot be read is a bad request, whatever the reason.
  if (statusCode === 413) return failure(413, `the body is larger than ${BODY_SIZE_MAX} bytes`);
  if (statusCode < 500) return failure(400, message);
  request.log.error({ err: error }, "a request failed");
  return failure(500, "an unexpected error; the log of this control process tells more");
}

/**
 * The HTTP side of the admin API: routes made from the rows, each request judged in one order: who
 * is it, may he, is the input right. Bounded in every direction, and it never writes a header, a
 * query or a body to the log.
 */
import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from "fastify";
import { z } from "zod";
import { OPERATOR_ROLES } from "../../core/cluster/records.ts";
import { StateUnavailable } from "../../core/cluster/state.ts";
import { formatAddress, parseAddress } from "../../core/runtime/config.ts";
import type { Logger } from "../../core/runtime/log.ts";
import { basicLogin } from "../basic.ts";
import { addressOf, type Gate, type KnownLogin, type Operator, type Rejection } from "../gate.ts";
import type { RequestCounters } from "../metrics.ts";
import { whenApplied } from "../operations/applied.ts";
import type { Context } from "../operations/change.ts";
import { type InputProblem, inputProblems, type Outcome } from "../operations/outcome.ts";
import type { Call, Desk, Endpoint } from "./endpoint.ts";
import { invalidInput, PROBLEM_TYPE, type ProblemAnswer, plain, problemOf } from "./problem.ts";
import { ENDPOINTS } from "./rows.ts";

const BODY_SIZE_MAX = 1024 * 1024;
const HEADER_SIZE_MAX = 16 * 1024;
const CONNECTION_COUNT_MAX = 512;
const REQUEST_TIMEOUT_MS = 15_000;
const IDLE_TIMEOUT_MS = 10_000;
/** One segment of a path: names are shorter. */
const SEGMENT_LENGTH_MAX = 200;
/** What endpoints take that take nothing. */
const NOTHING = z.strictObject({});

export interface ApiParts {
  readonly desk: Desk;
  readonly gate: Gate;
  readonly counters: RequestCounters;
  readonly log: Logger;
  /** Registers further APIs on the same port. */
  readonly mount?: ((server: FastifyInstance) => Promise<void>) | undefined;
  /** Certificate and key, for https. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer } | undefined;
  /** Tests let every answer be checked against its schema. */
  readonly checkAnswers?: boolean;
}

/** Who a request is from, once that is known. */
type Caller =
  | { readonly kind: "operator"; readonly operator: Operator }
  | { readonly kind: "credential"; readonly login: KnownLogin };

export async function createApi(parts: ApiParts): Promise<FastifyInstance> {
  const server = Fastify({
    ...(parts.tls === undefined ? {} : { https: parts.tls }),
    bodyLimit: BODY_SIZE_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: IDLE_TIMEOUT_MS,
    forceCloseConnections: "idle",
    http: { maxHeaderSize: HEADER_SIZE_MAX },
    routerOptions: { maxParamLength: SEGMENT_LENGTH_MAX },
    loggerInstance: parts.log.child({ part: "api" }, { level: "warn" }),
    logController: new LogController({ disableRequestLogging: true }),
  }) as unknown as FastifyInstance;
  server.server.maxConnections = CONNECTION_COUNT_MAX;
  const callers = new WeakMap<FastifyRequest, Caller>();
  addHooks(server, parts, callers);
  server.setErrorHandler((error, request, reply) => failed(parts, error, request, reply));
  server.setNotFoundHandler((request, reply) => notHere(request, reply));
  server.removeAllContentTypeParsers();
  server.addContentTypeParser("application/json", { parseAs: "string" }, (_, text, done) => {
    try {
      done(null, text === "" ? undefined : JSON.parse(String(text)));
    } catch {
      // The parser's own message quotes the text, which may hold a password.
      done(Object.assign(new Error("the body is not JSON"), { statusCode: 400 }));
    }
  });
  for (const row of ENDPOINTS) addRoute(server, parts, callers, row);
  addDocuments(server, parts.desk.version);
  await parts.mount?.(server);
  return server;
}

/** Listens; rejects with the system's error (EADDRINUSE …) when it cannot. The address is bound. */
export async function listenApi(server: FastifyInstance, address: string): Promise<string> {
  const { host, port } = parseAddress(address) ?? { host: "127.0.0.1", port: 0 };
  await server.listen({ host, port });
  const bound = server.server.address();
  const actual = typeof bound === "object" && bound !== null ? bound.port : port;
  return formatAddress({ host, port: actual });
}

function addHooks(
  server: FastifyInstance,
  { log, counters }: ApiParts,
  callers: WeakMap<FastifyRequest, Caller>,
): void {
  server.addHook("onRequest", async (request, reply) => {
    reply.headers({
      "cache-control": "no-store",
      "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
    });
    // A browser sends a remembered login along with whatever any page makes it send.
    const site = request.headers["sec-fetch-site"];
    const isForeign = site === "cross-site" || site === "same-site";
    if (isForeign && request.method !== "GET") {
      return send(reply, plain(403, "not from another site's page"));
    }
  });
  server.addHook("onResponse", async (request, reply) => {
    const route = request.routeOptions.url ?? "unknown";
    const { method } = request;
    const ms = reply.elapsedTime;
    const status = reply.statusCode;
    counters.count({ method, route, status, ms });
    const from = addressOf(request);
    const actor = actorOf(callers.get(request));
    const level = method === "GET" ? "debug" : "info";
    log[level]({ method, route, status, ms: Math.round(ms), actor, from }, "request");
  });
}

function addRoute(
  server: FastifyInstance,
  parts: ApiParts,
  callers: WeakMap<FastifyRequest, Caller>,
  row: Endpoint,
): void {
  server.route({
    method: row.method,
    url: row.path.replace(/\{(\w+)\}/g, ":$1"),
    // Before the body is read: strangers get nothing parsed.
    onRequest: async (request, reply) => {
      const caller = await callerOf(parts.gate, request);
      if (typeof caller === "number") return reject(parts.gate, request, reply, caller);
      callers.set(request, caller);
      const refusal = refusalOf(parts.desk, row, caller, request.params as Call["params"]);
      if (refusal !== undefined) return send(reply, refusal);
    },
    handler: async (request, reply) => {
      const caller = callers.get(request);
      return answer(parts, row, { request, reply, actor: actorOf(caller) });
    },
  });
}

async function callerOf(gate: Gate, request: FastifyRequest): Promise<Caller | Rejection> {
  const header = request.headers.authorization;
  const address = addressOf(request);
  const [, token] = /^Bearer +([!-~]{1,512}) *$/i.exec(header ?? "") ?? [];
  if (token !== undefined) {
    const operator = await gate.operatorOf(token, address);
    return typeof operator === "number" ? operator : { kind: "operator", operator };
  }
  const basic = basicLogin(header);
  if (basic === undefined) return 401;
  const login = await gate.credentialOf(basic, address);
  return typeof login === "number" ? login : { kind: "credential", login };
}

function reject(gate: Gate, request: FastifyRequest, reply: FastifyReply, status: Rejection) {
  if (status === 401) {
    reply.header("www-authenticate", ['Bearer realm="memward"', 'Basic realm="memward"']);
    const how = "log in with a token, or with a credential that has the right api";
    const isGiven = request.headers.authorization !== undefined;
    return send(reply, plain(401, isGiven ? "this login is not accepted" : how));
  }
  if (status === 403) return send(reply, plain(403, "this credential has no right api"));
  const seconds = gate.retryAfterSeconds(addressOf(request));
  reply.header("retry-after", String(seconds));
  return send(reply, plain(429, `too many wrong logins; try again in ${seconds} s`));
}

/** Why this caller may not; what a credential may not reach is not told apart from what is not. */
function refusalOf(
  { parts }: Desk,
  { role, forCredential }: Endpoint,
  caller: Caller,
  params: Call["params"],
): ProblemAnswer | undefined {
  if (caller.kind === "operator") {
    const has = OPERATOR_ROLES.indexOf(caller.operator.role);
    if (has >= OPERATOR_ROLES.indexOf(role)) return undefined;
    return plain(403, `this needs the role ${role}; the token has ${caller.operator.role}`);
  }
  const isOwn = parts.view.cache(params["name"] ?? "")?.id === caller.login.cache;
  if (forCredential && isOwn) return undefined;
  return plain(403, "a credential may manage its own cache, not its plan, and nothing else");
}

interface Asked {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly actor: string;
}

async function answer(parts: ApiParts, row: Endpoint, asked: Asked): Promise<FastifyReply> {
  const { desk } = parts;
  const { request, reply, actor } = asked;
  const askedAtMs = desk.parts.clock.nowMs();
  const problems: InputProblem[] = [];
  const body = checked(row.body, request.body ?? {}, problems);
  const { wait, ...rest } = request.query as Record<string, unknown>;
  const query = checked(row.query, rest, problems);
  if (wait !== undefined && (wait !== "applied" || row.waitsFor === undefined)) {
    const message = row.waitsFor === undefined ? "unknown field" : "only applied";
    problems.push({ path: "wait", message });
  }
  const ifRevision = revisionOf(request.headers["if-match"], problems);
  if (problems.length > 0) return send(reply, invalidInput(problems));
  const context: Context = { actor, from: addressOf(request), ifRevision };
  const params = request.params as Call["params"];
  const outcome = await row.run({ desk, parts: desk.parts, context, params, body, query });
  const awayMs = desk.awayMs();
  if (awayMs !== undefined) reply.header("memward-state-away", `${Math.round(awayMs / 1000)}`);
  if (!outcome.ok) return send(reply, problemOf(outcome.problem, ifRevision !== undefined));
  if (parts.checkAnswers) row.answer?.parse(outcome.value);
  return succeed(parts, row, { ...asked, outcome, isWaiting: wait !== undefined, askedAtMs });
}

async function succeed(
  { desk }: ApiParts,
  row: Endpoint,
  {
    reply,
    outcome,
    isWaiting,
    askedAtMs,
  }: Asked & {
    outcome: Extract<Outcome<unknown>, { ok: true }>;
    isWaiting: boolean;
    askedAtMs: number;
  },
): Promise<FastifyReply> {
  const { value, revision } = outcome;
  const shown = row.answer === undefined ? {} : (value as Record<string, unknown>);
  if ("revision" in shown && row.method !== "DELETE") reply.header("etag", `"${revision}"`);
  if (row.location !== undefined) reply.header("location", row.location(value));
  const made = row.location !== undefined ? 201 : row.answer === undefined ? 204 : 200;
  const status = row.isLate?.(value) === true ? 202 : made;
  if (!isWaiting) {
    return status === 204 ? reply.code(204).send() : reply.code(status).send(shown);
  }
  const cacheId = row.waitsFor === "shards" ? (value as { id: string }).id : undefined;
  const applied = await whenApplied(desk.parts, { revision, cacheId, askedAtMs });
  const isLate = applied.missing.length > 0;
  return reply.code(isLate ? 202 : status === 204 ? 200 : status).send({ ...shown, applied });
}

function checked(
  schema: z.ZodObject | undefined,
  value: unknown,
  problems: InputProblem[],
): unknown {
  const parsed = (schema ?? NOTHING).safeParse(value);
  if (!parsed.success) problems.push(...inputProblems(parsed.error));
  return parsed.data;
}

/** `If-Match: "17"`; the tags are revisions. */
function revisionOf(header: string | undefined, problems: InputProblem[]): number | undefined {
  if (header === undefined || header === "*") return undefined;
  const [, digits] = /^"?(\d{1,15})"?$/.exec(header) ?? [];
  if (digits !== undefined) return Number(digits);
  problems.push({ path: "If-Match", message: 'the ETag of an answer, like "17"' });
  return undefined;
}

function failed(
  { log }: ApiParts,
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  if (error instanceof StateUnavailable) {
    return send(reply, plain(503, `nothing can be looked up now: ${error.message}`));
  }
  const { statusCode = 500, message } = error as { statusCode?: number; message: string };
  if (statusCode === 413) {
    return send(reply, plain(413, `the body is larger than ${BODY_SIZE_MAX} bytes`));
  }
  if (statusCode === 415) {
    return send(reply, plain(415, "bodies are JSON; say content-type: application/json"));
  }
  if (statusCode < 500) return send(reply, { ...plain(statusCode, message) });
  log.error({ err: error, route: request.routeOptions.url }, "a request failed");
  return send(reply, plain(500, "an unexpected error; the log of this control process tells more"));
}

function notHere(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const path = request.url.split("?", 1)[0] ?? "";
  const others = ENDPOINTS.filter((row) => patternOf(row).test(path)).map(({ method }) => method);
  if (others.length === 0) return send(reply, plain(404, "there is nothing here; see /docs"));
  reply.header("allow", others.join(", "));
  return send(reply, plain(405, `here is ${others.join(", ")}`));
}

const patternOf = ({ path }: Endpoint): RegExp =>
  new RegExp(`^${path.replace(/\{\w+\}/g, "[^/]+")}$`);

function send(reply: FastifyReply, problem: ProblemAnswer): FastifyReply {
  return reply.code(problem.status).type(PROBLEM_TYPE).send(JSON.stringify(problem));
}

function actorOf(caller: Caller | undefined): string {
  if (caller === undefined) return "";
  return caller.kind === "operator"
    ? `token:${caller.operator.name}`
    : `credential:${caller.login.username}`;
}

/** For people and programs that ask what there is. Nothing secret, so no login. Made when asked. */
function addDocuments(server: FastifyInstance, version: string): void {
  let document: string | undefined;
  server.get("/openapi.json", async (_, reply) => {
    const { openApiDocument } = await import("./openapi.ts");
    document ??= JSON.stringify(openApiDocument(ENDPOINTS, version));
    return reply.type("application/json").send(document);
  });
  server.get("/docs", async (_, reply) => {
    const { DOCS_POLICY, docsPage } = await import("./docs.ts");
    const page = docsPage(ENDPOINTS, version);
    return reply
      .header("content-security-policy", DOCS_POLICY)
      .type("text/html; charset=utf-8")
      .send(page);
  });
  server.get("/", async (_, reply) => reply.redirect("/docs"));
}

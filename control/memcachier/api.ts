/**
 * MemCachier's own API, version 2 (https://www.memcachier.com/documentation/analytics-api), under
 * /api/v2/caches/<id>/: scripts that were written for it work by changing the host. `<id>` is the
 * id or the name of a cache; the login is a credential of that cache with the right `api`. One
 * difference cannot be helped: a password is in the answer that makes it and nowhere else.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { StateUnavailable } from "../../core/cluster/state.ts";
import { basicLogin } from "../basic.ts";
import { addressOf, type Gate, type Rejection } from "../gate.ts";
import { whenApplied } from "../operations/applied.ts";
import {
  changeCache,
  flushCache,
  resetStats,
  type ShownCache,
  showCache,
} from "../operations/caches.ts";
import type { Context, Parts } from "../operations/change.ts";
import { serversOf } from "../operations/credential-shapes.ts";
import {
  changeCredential,
  createCredential,
  deleteCredential,
  listCredentials,
  promoteCredential,
  showCredential,
} from "../operations/credentials.ts";
import { inputProblems, type Outcome, type Problem } from "../operations/outcome.ts";
import { cacheStats } from "../operations/stats.ts";
import {
  type Capabilities,
  cacheView,
  capabilitiesInput,
  capabilitiesOf,
  credentialView,
  rightsOf,
} from "./shapes.ts";

const BODY_SIZE_MAX = 1024 * 1024;
/** Ids and names of caches alike. */
const CACHE_PATTERN = /^[a-z0-9-]{1,63}$/;

export interface MemcachierDoor {
  readonly parts: Parts;
  readonly gate: Pick<Gate, "credentialOf" | "retryAfterSeconds">;
}

interface Answer {
  readonly status: number;
  readonly body?: unknown;
}

const answer = (status: number, body?: unknown): Answer => ({ status, body });
const refusal = (status: number, message: string): Answer => answer(status, { message });

interface Admitted {
  readonly parts: Parts;
  readonly context: Context;
  readonly cache: ShownCache;
  readonly username: string;
}
interface Asked extends Admitted {
  readonly body: string;
}

interface Row {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE" | "PUT";
  /** Behind /api/v2/caches/<id>. */
  readonly path: string;
  /** What a cache that is not the credential's own answers; they are not told apart. */
  readonly elsewhere: 403 | 404;
  readonly run: (asked: Asked) => Promise<Answer>;
}

const ROWS: readonly Row[] = [
  { method: "GET", path: "/info", elsewhere: 403, run: info },
  { method: "GET", path: "/credentials", elsewhere: 403, run: list },
  { method: "POST", path: "/credentials", elsewhere: 403, run: create },
  { method: "PATCH", path: "/credentials/:username", elsewhere: 403, run: change },
  { method: "DELETE", path: "/credentials/:username", elsewhere: 403, run: remove },
  { method: "POST", path: "/credentials/primary/:username", elsewhere: 403, run: promote },
  { method: "POST", path: "/enable_cache", elsewhere: 403, run: enable },
  { method: "POST", path: "/flush", elsewhere: 404, run: flush },
  { method: "POST", path: "/reset_stats", elsewhere: 404, run: reset },
  { method: "GET", path: "/stats", elsewhere: 404, run: stats },
  ...notOffered("POST", "/rotate_sso", "dashboards open with an operator's token, not with links"),
  ...notOffered("POST", "/switch_cluster", "a cache is on all nodes already"),
  ...(["GET", "POST", "DELETE", "PUT"] as const).flatMap((method) =>
    ["/insight/*", "/alerts", "/alerts/*", "/introspection/*"].flatMap((path) =>
      notOffered(method, path, "figures are at /metrics, for Prometheus and its alerts"),
    ),
  ),
];

function notOffered(method: Row["method"], path: string, why: string): Row[] {
  const run = async (): Promise<Answer> => refusal(501, `not offered by Memward: ${why}`);
  return [{ method, path, elsewhere: 403, run }];
}

/** Registers the API on a server; a plugin of its own, so that its errors look like MemCachier's. */
export async function memcachierApi(server: FastifyInstance, door: MemcachierDoor): Promise<void> {
  // Deploy hooks post whatever they have; where a body counts it is JSON, however it is labelled.
  server.removeAllContentTypeParsers();
  server.addContentTypeParser("*", { parseAs: "string" }, (_, body, done) => done(null, body));
  server.setErrorHandler((error, request, reply) => send(reply, problemOf(error, request)));
  const admissions = new WeakMap<FastifyRequest, Admitted>();
  for (const row of ROWS) {
    server.route({
      method: row.method,
      url: `/api/v2/caches/:cache${row.path}`,
      bodyLimit: BODY_SIZE_MAX,
      // Before the body is read: strangers get nothing parsed.
      onRequest: async (request, reply) => {
        const found = await admitted(door, row, request);
        if ("status" in found) return refuse(door, request, reply, found);
        admissions.set(request, found);
      },
      handler: async (request, reply) => {
        const found = admissions.get(request);
        if (found === undefined) throw new Error("a request that nobody admitted");
        const body = typeof request.body === "string" ? request.body : "";
        return send(reply, await row.run({ ...found, body }));
      },
    });
  }
}

function send(reply: FastifyReply, { status, body }: Answer): FastifyReply {
  reply.header("cache-control", "no-store");
  return reply.code(status).send(body);
}

function refuse(
  { gate }: MemcachierDoor,
  request: FastifyRequest,
  reply: FastifyReply,
  why: Answer,
) {
  if (why.status === 401) reply.header("www-authenticate", 'Basic realm="memward"');
  if (why.status === 429) {
    reply.header("retry-after", String(gate.retryAfterSeconds(addressOf(request))));
  }
  return send(reply, why);
}

const REJECTIONS: Readonly<Record<Rejection, string>> = {
  401: "this login is not accepted",
  403: "this credential has no api capability",
  429: "too many wrong logins from this address; wait",
};

/** In MemCachier's order: the login, the id, whether the one belongs to the other. */
async function admitted(
  { parts, gate }: MemcachierDoor,
  row: Row,
  request: FastifyRequest,
): Promise<Admitted | Answer> {
  const login = basicLogin(request.headers.authorization);
  if (login === undefined) return refusal(401, "log in with a credential of this cache");
  const from = addressOf(request);
  const known = await gate.credentialOf(login, from);
  if (typeof known === "number") return refusal(known, REJECTIONS[known]);
  const { cache: id = "", username = "" } = request.params as Record<string, string | undefined>;
  if (!CACHE_PATTERN.test(id)) return refusal(400, "that is no id of a cache");
  const found = showCache(parts.view, known.cache);
  if (!found.ok) return refusal(404, "the cache of this credential is gone");
  const cache = found.value;
  if (id !== cache.id && id !== cache.name) {
    return refusal(row.elsewhere, `no access to a cache ${id} with this credential`);
  }
  const context = { actor: `credential:${known.username}`, from };
  return { parts, context, cache, username };
}

// ---- caches ------------------------------------------------------------------------------------

async function info({ parts, cache }: Asked): Promise<Answer> {
  const found = listCredentials(parts, cache.id);
  if (!found.ok) return refused(found.problem);
  const { credentials } = found.value;
  return answer(200, cacheView(cache, { servers: serversOf(parts), credentials }));
}

async function enable(asked: Asked): Promise<Answer> {
  const { parts, context, cache } = asked;
  const outcome = await changeCache(parts, context, cache.id, { enabled: true });
  return inForce(asked, outcome, () => answer(200, {}));
}

async function flush(asked: Asked): Promise<Answer> {
  const { parts, context, cache } = asked;
  return whenShardsFollow(asked, await flushCache(parts, context, cache.id));
}

async function reset(asked: Asked): Promise<Answer> {
  const { parts, context, cache } = asked;
  return whenShardsFollow(asked, await resetStats(parts, context, cache.id));
}

async function stats({ parts, cache }: Asked): Promise<Answer> {
  const found = await cacheStats(parts, cache.id);
  if (!found.ok) return refused(found.problem);
  const { stats, shards } = found.value;
  if (shards.asked > 0 && shards.answered === 0) return refusal(503, "no shard answers");
  return answer(200, stats);
}

// ---- credentials -------------------------------------------------------------------------------

async function list({ parts, cache }: Asked): Promise<Answer> {
  const found = listCredentials(parts, cache.id);
  if (!found.ok) return refused(found.problem);
  const { id } = cache;
  return answer(
    200,
    found.value.credentials.map((one) => credentialView({ ...one, id })),
  );
}

/** Without a body it may do everything, as MemCachier's may. */
async function create(asked: Asked): Promise<Answer> {
  const { parts, context, cache, body } = asked;
  const given = capabilitiesIn(body === "" ? "{}" : body);
  if (!given.ok) return given.answer;
  const rights = rightsOf(given.capabilities, { missing: true, reads: true });
  const outcome = await createCredential(parts, context, cache.id, { rights });
  return inForce(asked, outcome, (made) =>
    answer(201, credentialView({ ...made, id: cache.id }, made.password)),
  );
}

/** A capability that is left out is taken away: so it is documented, and scripts rely on it. */
async function change(asked: Asked): Promise<Answer> {
  const { parts, context, cache, username, body } = asked;
  const given = capabilitiesIn(body);
  if (!given.ok) return given.answer;
  const before = showCredential(parts, cache.id, username);
  if (!before.ok) return refused(before.problem);
  const reads = before.value.rights.includes("read");
  const rights = rightsOf(given.capabilities, { missing: false, reads });
  if (rights.length === 0) return refusal(400, "nothing would be left that this credential may do");
  const subject = { cache: cache.id, username };
  const outcome = await changeCredential(parts, context, subject, { rights });
  return inForce(asked, outcome, (shown) => answer(200, capabilitiesOf(shown.rights)));
}

async function remove(asked: Asked): Promise<Answer> {
  const { parts, context, cache, username } = asked;
  const outcome = await deleteCredential(parts, context, { cache: cache.id, username });
  if (!outcome.ok && outcome.problem.kind === "conflict") {
    return refusal(403, outcome.problem.message); // The last one of the cache.
  }
  return inForce(asked, outcome, () => answer(200, {}));
}

async function promote(asked: Asked): Promise<Answer> {
  const { parts, context, cache, username } = asked;
  const outcome = await promoteCredential(parts, context, { cache: cache.id, username });
  return inForce(asked, outcome, (shown) =>
    answer(200, credentialView({ ...shown, id: cache.id })),
  );
}

function capabilitiesIn(
  body: string,
): { ok: true; capabilities: Capabilities } | { ok: false; answer: Answer } {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return { ok: false, answer: refusal(400, "the body is not JSON") };
  }
  const parsed = capabilitiesInput.safeParse(value);
  if (parsed.success) return { ok: true, capabilities: parsed.data };
  const problems = inputProblems(parsed.error);
  const all = problems.map(({ path, message }) => (path === "" ? message : `${path}: ${message}`));
  return { ok: false, answer: refusal(400, all.join("; ")) };
}

// ---- answers -----------------------------------------------------------------------------------

/** Answers when all proxies know, or some seconds later anyway. */
async function inForce<T>(
  { parts }: Asked,
  outcome: Outcome<T>,
  then: (value: T) => Answer,
): Promise<Answer> {
  if (!outcome.ok) return refused(outcome.problem);
  await whenApplied(parts, { revision: outcome.revision });
  return then(outcome.value);
}

async function whenShardsFollow(
  { parts, cache }: Asked,
  outcome: Outcome<unknown>,
): Promise<Answer> {
  if (!outcome.ok) return refused(outcome.problem);
  const { missing } = await whenApplied(parts, { revision: outcome.revision, cacheId: cache.id });
  if (missing.length === 0) return answer(204);
  return refusal(504, `${missing.join(", ")} did not follow yet, but will`);
}

function refused(problem: Problem): Answer {
  switch (problem.kind) {
    case "invalid":
      return refusal(
        400,
        problem.problems.map(({ path, message }) => `${path}: ${message}`).join("; "),
      );
    case "notFound":
      return refusal(404, problem.message);
    case "forbidden":
      return refusal(403, problem.message);
    case "conflict":
      return refusal(409, problem.message);
    case "unavailable":
      return refusal(503, problem.message);
  }
}

/** What went wrong before or beside the request's own work. */
function problemOf(error: unknown, request: FastifyRequest): Answer {
  if (error instanceof StateUnavailable) {
    return refusal(503, `nothing can be changed now: ${error.message}`);
  }
  const { statusCode = 500, message } = error as { statusCode?: number; message: string };
  if (statusCode < 500) return refusal(statusCode, message);
  request.log.error({ err: error }, "a request failed");
  return refusal(500, "an unexpected error; the log of this control process tells more");
}

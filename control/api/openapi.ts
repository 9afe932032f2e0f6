/** The OpenAPI 3.1 document, made from the same rows and schemas that routes and checks use. */
import { z } from "zod";
import { appliedAnswer } from "../operations/applied.ts";
import type { Endpoint } from "./endpoint.ts";
import { PROBLEM_TYPE, problemAnswer } from "./problem.ts";

type Json = Record<string, unknown>;

const REFUSALS: Readonly<Record<number, string>> = {
  400: "The input is wrong; every problem is listed by its path",
  401: "No login, or a wrong one",
  403: "The login may not do this",
  404: "There is no such thing",
  409: "It exists already, or somebody else was faster",
  412: "The record has not the revision of If-Match any more",
  413: "The body is larger than 1 MB",
  415: "The body is not JSON",
  429: "Too many wrong logins from this address",
  503: "The cluster state cannot be reached; nothing was changed",
};

export function openApiDocument(endpoints: readonly Endpoint[], version: string): Json {
  const paths: Record<string, Json> = {};
  for (const row of endpoints) {
    const item = paths[row.path] ?? {};
    paths[row.path] = item;
    item[row.method.toLowerCase()] = operation(row);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Memward admin API",
      version,
      description:
        "Caches, credentials and operators of one Memward. Changes are in force on every proxy " +
        "within a second; `?wait=applied` answers when they are, and names each proxy. A password " +
        "is in the answer that makes it and nowhere else. Beside it on this port: MemCachier's API " +
        "v2 under /api/v2/caches/ (where `sasl_password` is null but in the answer that makes it) " +
        "and the Open Service Broker API 2.17 under /v2/.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    tags: [...new Set(endpoints.map(tagOf))].map((name) => ({ name })),
    paths,
    components: {
      securitySchemes: {
        token: { type: "http", scheme: "bearer", description: "mwt_<id>_<secret> of an operator" },
        credential: {
          type: "http",
          scheme: "basic",
          description: "A credential with the right api, for its own cache",
        },
      },
      schemas: { Problem: jsonSchema(problemAnswer, "output") },
    },
  };
}

function operation(row: Endpoint): Json {
  const { summary, role, forCredential, body } = row;
  const who = forCredential ? `${role}, or a credential of the cache with the right api` : role;
  return {
    summary,
    operationId: operationId(row),
    tags: [tagOf(row)],
    description: `For role ${who}.`,
    security: [{ token: [] }, ...(forCredential ? [{ credential: [] }] : [])],
    parameters: parameters(row),
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: Object.values(body.shape).some(
              (field) => !field.safeParse(undefined).success,
            ),
            content: { "application/json": { schema: jsonSchema(body, "input") } },
          },
        }),
    responses: responses(row),
  };
}

function parameters(row: Endpoint): Json[] {
  const { path, method, query, waitsFor } = row;
  const found: Json[] = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
    ...(name === "name" ? { description: "Name or id of the cache" } : {}),
  }));
  for (const [name, field] of Object.entries(query?.shape ?? {})) {
    const { description, ...schema } = jsonSchema(field, "output");
    found.push({ name, in: "query", required: false, schema, ...described(description) });
  }
  if (waitsFor !== undefined) {
    const description = "Answer when it is in force everywhere; 202 after 5 s with who is missing";
    found.push({ name: "wait", in: "query", schema: { enum: ["applied"] }, description });
  }
  if (method !== "GET" && /\{name\}/.test(path)) {
    const description = "The ETag of an answer: only if it has not changed since";
    found.push({ name: "If-Match", in: "header", schema: { type: "string" }, description });
  }
  return found;
}

const described = (description: unknown) =>
  typeof description === "string" ? { description } : {};

function responses(row: Endpoint): Json {
  const { answer, location, waitsFor } = row;
  const applied = { applied: appliedAnswer.optional() };
  const shown = waitsFor === undefined ? answer : (answer ?? z.strictObject({})).extend(applied);
  const status = location !== undefined ? 201 : answer === undefined ? 204 : 200;
  const content =
    shown === undefined
      ? {}
      : { content: { "application/json": { schema: jsonSchema(shown, "output") } } };
  const found: Record<string, Json> = {};
  if (status === 204) {
    found["204"] = { description: "Done" };
    if (waitsFor !== undefined) found["200"] = { description: "In force everywhere", ...content };
  } else {
    found[status] = { description: location === undefined ? "Done" : "Made", ...content };
  }
  if (waitsFor !== undefined) {
    found["202"] = { description: "Done, but not in force everywhere after 5 s", ...content };
  }
  if (row.isLate !== undefined) {
    found["202"] = { description: "Asked for; no monitor has done it yet", ...content };
  }
  for (const refusal of refusalsOf(row)) {
    found[refusal] = {
      description: REFUSALS[refusal],
      content: { [PROBLEM_TYPE]: { schema: { $ref: "#/components/schemas/Problem" } } },
    };
  }
  return found;
}

function refusalsOf({ method, path, body }: Endpoint): number[] {
  const isChange = method !== "GET";
  return [
    400,
    401,
    403,
    ...(path.includes("{") ? [404] : []),
    ...(isChange ? [409] : []),
    ...(isChange && path.includes("{name}") ? [412] : []),
    ...(body === undefined ? [] : [413, 415]),
    429,
    503,
  ];
}

/** `listCaches`, `rotateCredential`: unique, and fit for names of functions. */
function operationId({ method, path }: Endpoint): string {
  const words = path
    .replace(/^\/v1\//, "")
    .split(/[/{}]+/)
    .filter((word) => word !== "");
  const verb = method.toLowerCase();
  return verb + words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("");
}

function tagOf({ path }: Endpoint): string {
  if (path.includes("/credentials")) return "credentials";
  return path.split("/")[2] ?? "";
}

function jsonSchema(schema: z.ZodType, io: "input" | "output"): Json {
  const { $schema: _, ...found } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return found;
}

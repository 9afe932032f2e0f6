/** Endpoints about the instance as a whole: tokens, the audit log, what runs. */
import { z } from "zod";
import { AUDIT_PAGE_LENGTH_MAX, auditAnswer, listAudit } from "../operations/audit.ts";
import {
  changeNode,
  listNodes,
  listProxies,
  nodeAnswer,
  nodeChangeInput,
  proxyAnswer,
  showStatus,
  statusAnswer,
} from "../operations/nodes.ts";
import { done } from "../operations/outcome.ts";
import {
  createToken,
  deleteToken,
  listTokens,
  madeTokenAnswer,
  newTokenInput,
  tokenAnswer,
} from "../operations/tokens.ts";
import { type Endpoint, endpoint } from "./endpoint.ts";
import { countQuery, nextAnswer } from "./paging.ts";

export const INSTANCE_ENDPOINTS: readonly Endpoint[] = [
  endpoint({
    method: "GET",
    path: "/v1/tokens",
    summary: "Tokens of operators, without what is secret in them",
    role: "owner",
    forCredential: false,
    answer: z.strictObject({ tokens: z.array(tokenAnswer) }),
    run: ({ parts }) => done({ tokens: listTokens(parts) }, parts.view.revision),
  }),
  endpoint({
    method: "POST",
    path: "/v1/tokens",
    summary: "Make a token for an operator; it is shown once",
    role: "owner",
    forCredential: false,
    body: newTokenInput,
    answer: madeTokenAnswer,
    location: ({ id }) => `/v1/tokens/${id}`,
    run: ({ parts, context, body }) => createToken(parts, context, body),
  }),
  endpoint({
    method: "DELETE",
    path: "/v1/tokens/{id}",
    summary: "Delete a token; one owner's that does not expire remains",
    role: "owner",
    forCredential: false,
    run: ({ parts, context, params }) => deleteToken(parts, context, params["id"] ?? ""),
  }),
  endpoint({
    method: "GET",
    path: "/v1/audit",
    summary: "Who changed what, when, from where; the newest first",
    role: "viewer",
    forCredential: false,
    query: z.strictObject({
      before: z.string().max(200).optional().describe("The `next` of the page before"),
      limit: countQuery({ max: AUDIT_PAGE_LENGTH_MAX }).optional(),
      cache: z.string().max(63).optional().describe("Only of this cache, by name or id"),
    }),
    answer: z.strictObject({ records: z.array(auditAnswer), next: nextAnswer }),
    run: ({ parts, query }) => listAudit(parts, query),
  }),
  endpoint({
    method: "GET",
    path: "/v1/nodes",
    summary: "Backend nodes that are alive",
    role: "viewer",
    forCredential: false,
    answer: z.strictObject({ nodes: z.array(nodeAnswer) }),
    run: ({ parts }) => done({ nodes: listNodes(parts) }, parts.view.revision),
  }),
  endpoint({
    method: "PATCH",
    path: "/v1/nodes/{node}",
    summary: "Drain a node before it goes, or take it in again",
    role: "operator",
    forCredential: false,
    body: nodeChangeInput,
    answer: z.strictObject({ name: z.string(), draining: z.boolean(), revision: z.int() }),
    run: ({ parts, context, params, body }) =>
      changeNode(parts, context, params["node"] ?? "", body),
  }),
  endpoint({
    method: "GET",
    path: "/v1/proxies",
    summary: "Proxies that are alive, with the revision that each has applied",
    role: "viewer",
    forCredential: false,
    answer: z.strictObject({ proxies: z.array(proxyAnswer) }),
    run: ({ parts }) => done({ proxies: listProxies(parts) }, parts.view.revision),
  }),
  endpoint({
    method: "GET",
    path: "/v1/status",
    summary: "The whole in one answer",
    role: "viewer",
    forCredential: false,
    answer: statusAnswer,
    run: ({ parts, desk }) => {
      const stateReachable = desk.awayMs() === undefined;
      const status = showStatus(parts, { version: desk.version, stateReachable });
      return done(status, parts.view.revision);
    },
  }),
];

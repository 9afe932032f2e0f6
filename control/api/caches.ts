/** Endpoints of caches and plans. */
import { z } from "zod";
import {
  cacheAnswer,
  cacheChangeInput,
  changeCache,
  createCache,
  deleteCache,
  flushCache,
  listCaches,
  newCacheInput,
  resetStats,
  showCache,
} from "../operations/caches.ts";
import { done } from "../operations/outcome.ts";
import { cacheStats, statsAnswer } from "../operations/stats.ts";
import { type Endpoint, endpoint } from "./endpoint.ts";
import { nextAnswer, pageQuery } from "./paging.ts";

const planAnswer = z.strictObject({
  name: z.string(),
  bytes: z.int(),
  free: z.boolean(),
  limits: cacheAnswer.shape.limits,
});
const segment = encodeURIComponent;

export const CACHE_ENDPOINTS: readonly Endpoint[] = [
  endpoint({
    method: "GET",
    path: "/v1/plans",
    summary: "The plans: sizes and limits that caches can have",
    role: "viewer",
    forCredential: false,
    answer: z.strictObject({ plans: z.array(planAnswer) }),
    run: ({ parts }) => done({ plans: [...parts.plans] }, parts.view.revision),
  }),
  endpoint({
    method: "GET",
    path: "/v1/caches",
    summary: "All caches by name, page by page",
    role: "viewer",
    forCredential: false,
    query: pageQuery,
    answer: z.strictObject({ caches: z.array(cacheAnswer), next: nextAnswer }),
    run: ({ parts, query }) => done(listCaches(parts, query), parts.view.revision),
  }),
  endpoint({
    method: "POST",
    path: "/v1/caches",
    summary: "Make a cache of a plan, or of any size",
    role: "operator",
    forCredential: false,
    body: newCacheInput,
    answer: cacheAnswer,
    location: ({ name }) => `/v1/caches/${segment(name)}`,
    waitsFor: "shards",
    run: ({ parts, context, body }) => createCache(parts, context, body),
  }),
  endpoint({
    method: "GET",
    path: "/v1/caches/{name}",
    summary: "One cache, by name or id",
    role: "viewer",
    forCredential: true,
    answer: cacheAnswer,
    run: ({ parts, params }) => showCache(parts.view, params["name"] ?? ""),
  }),
  endpoint({
    method: "PATCH",
    path: "/v1/caches/{name}",
    summary: "Change plan, size, limits, policies; what a smaller size can hold stays",
    role: "operator",
    forCredential: false,
    body: cacheChangeInput,
    answer: cacheAnswer,
    waitsFor: "shards",
    run: ({ parts, context, params, body }) =>
      changeCache(parts, context, params["name"] ?? "", body),
  }),
  endpoint({
    method: "DELETE",
    path: "/v1/caches/{name}",
    summary: "Delete a cache with its values and all its credentials",
    role: "operator",
    forCredential: false,
    waitsFor: "proxies",
    run: ({ parts, context, params }) => deleteCache(parts, context, params["name"] ?? ""),
  }),
  ...(["enable", "disable"] as const).map((word) =>
    endpoint({
      method: "POST",
      path: `/v1/caches/{name}/${word}`,
      summary:
        word === "enable"
          ? "Let a disabled cache be used again"
          : "Refuse logins and close sessions; values and credentials stay",
      role: "operator",
      forCredential: false,
      answer: cacheAnswer,
      waitsFor: "proxies",
      run: ({ parts, context, params }) =>
        changeCache(parts, context, params["name"] ?? "", { enabled: word === "enable" }),
    }),
  ),
  endpoint({
    method: "POST",
    path: "/v1/caches/{name}/flush",
    summary: "Drop all values",
    role: "operator",
    forCredential: true,
    answer: cacheAnswer,
    waitsFor: "shards",
    run: ({ parts, context, params }) => flushCache(parts, context, params["name"] ?? ""),
  }),
  endpoint({
    method: "GET",
    path: "/v1/caches/{name}/stats",
    summary: "Counters under memcached's names, over all shards and proxies",
    role: "viewer",
    forCredential: true,
    answer: statsAnswer,
    run: ({ parts, params }) => cacheStats(parts, params["name"] ?? ""),
  }),
  endpoint({
    method: "POST",
    path: "/v1/caches/{name}/stats/reset",
    summary: "Let the counters of the shards begin anew",
    role: "operator",
    forCredential: true,
    answer: cacheAnswer,
    waitsFor: "shards",
    run: ({ parts, context, params }) => resetStats(parts, context, params["name"] ?? ""),
  }),
];

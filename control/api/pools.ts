/** Endpoints of pools. */
import { z } from "zod";
import { done } from "../operations/outcome.ts";
import {
  changePool,
  createPool,
  deletePool,
  listPools,
  newPoolInput,
  poolAnswer,
  poolChangeInput,
  showPool,
} from "../operations/pools.ts";
import { type Endpoint, endpoint } from "./endpoint.ts";

const segment = encodeURIComponent;

export const POOL_ENDPOINTS: readonly Endpoint[] = [
  endpoint({
    method: "GET",
    path: "/v1/pools",
    summary: "The pools: our nodes, and memcached servers that we do not run",
    role: "viewer",
    forCredential: false,
    answer: z.strictObject({ pools: z.array(poolAnswer) }),
    run: ({ parts }) => done({ pools: listPools(parts) }, parts.view.revision),
  }),
  endpoint({
    method: "POST",
    path: "/v1/pools",
    summary: "Name memcached servers that we do not run, for caches to be made on them",
    role: "operator",
    forCredential: false,
    body: newPoolInput,
    answer: poolAnswer,
    location: ({ name }) => `/v1/pools/${segment(name)}`,
    run: ({ parts, context, body }) => createPool(parts, context, body),
  }),
  endpoint({
    method: "GET",
    path: "/v1/pools/{pool}",
    summary: "One pool",
    role: "viewer",
    forCredential: false,
    answer: poolAnswer,
    run: ({ parts, params }) => showPool(parts.view, params["pool"] ?? ""),
  }),
  endpoint({
    method: "PATCH",
    path: "/v1/pools/{pool}",
    summary: "Other servers for all caches of a pool; keys that move are missed once",
    role: "operator",
    forCredential: false,
    body: poolChangeInput,
    answer: poolAnswer,
    waitsFor: "proxies",
    run: ({ parts, context, params, body }) =>
      changePool(parts, context, params["pool"] ?? "", body),
  }),
  endpoint({
    method: "DELETE",
    path: "/v1/pools/{pool}",
    summary: "Forget a pool on which there are no caches",
    role: "operator",
    forCredential: false,
    run: ({ parts, context, params }) => deletePool(parts, context, params["pool"] ?? ""),
  }),
];

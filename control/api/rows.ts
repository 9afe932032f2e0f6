/** All endpoints of the admin API. */
import { CACHE_ENDPOINTS } from "./caches.ts";
import { CREDENTIAL_ENDPOINTS } from "./credentials.ts";
import type { Endpoint } from "./endpoint.ts";
import { INCIDENT_ENDPOINTS } from "./incidents.ts";
import { INSTANCE_ENDPOINTS } from "./instance.ts";
import { POOL_ENDPOINTS } from "./pools.ts";

export const ENDPOINTS: readonly Endpoint[] = [
  ...CACHE_ENDPOINTS,
  ...POOL_ENDPOINTS,
  ...CREDENTIAL_ENDPOINTS,
  ...INCIDENT_ENDPOINTS,
  ...INSTANCE_ENDPOINTS,
];

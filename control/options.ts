/** Options of the control role: the `control` section of a configuration file. */
import { z } from "zod";
import { addressOption } from "../core/runtime/config.ts";
import { PLANS, planSchema } from "./operations/plans.ts";

const PLAN_COUNT_MAX = 100;
const AUDIT_DAYS_DEFAULT = 400;

export const DEFAULT_CONTROL_ADDRESS = "127.0.0.1:8211";

export const controlOptions = z.strictObject({
  listen: addressOption()
    .default(DEFAULT_CONTROL_ADDRESS)
    .describe("address of the admin API, of MemCachier's API and of the service broker"),
  plans: z
    .array(planSchema)
    .min(1)
    .max(PLAN_COUNT_MAX)
    .refine((plans) => new Set(plans.map(({ name }) => name)).size === plans.length, {
      error: "names of plans are used once",
    })
    .default([...PLANS])
    .describe("sizes and limits that caches can have"),
  servers: z
    .array(addressOption())
    .max(64)
    .default([])
    .describe("what applications are told to connect to; default: what the live proxies say"),
  certFile: z.string().min(1).optional().describe("certificate (PEM); with keyFile: https"),
  keyFile: z.string().min(1).optional().describe("private key of the certificate (PEM)"),
  auditDays: z
    .int()
    .min(1)
    .max(36_500)
    .default(AUDIT_DAYS_DEFAULT)
    .describe("how long audit records are kept"),
  brokerServiceName: z
    .string()
    .regex(/^[A-Za-z0-9.-]{1,63}$/, "letters, digits, periods and hyphens, at most 63")
    .default("memward")
    .describe("name of the service in the broker's catalog; its ids are made from it"),
  brokerKeyFile: z
    .string()
    .min(1)
    .optional()
    .describe("what passwords of bindings are made from; default: broker.key beside the state"),
});
export type ControlOptions = z.output<typeof controlOptions>;

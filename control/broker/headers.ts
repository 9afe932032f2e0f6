/** The headers of the Open Service Broker API, and what is wrong with them. */
import type { z } from "zod";

const IDENTITY_SIZE_MAX = 4096;
const PLATFORM_LENGTH_MAX = 100;
const REQUEST_IDENTITY = /^[!-~]{1,256}$/;

/** "API Version Header". Minor versions only add, so all of 2.x will do. */
export function isVersionServed(header: unknown): boolean {
  return typeof header === "string" && /^2\.\d{1,4}$/.test(header.trim());
}

/** Who asked the platform for it: shown in the audit log as the platform said it. */
export interface OriginatingIdentity {
  readonly platform: string;
  readonly identity: z.core.util.JSONType;
}

/** Undefined when there is none; a sentence when it is not as "Originating Identity" wants it. */
export function originatingIdentity(header: unknown): OriginatingIdentity | undefined | string {
  if (header === undefined) return undefined;
  const [platform = "", value = "", ...rest] = String(header).trim().split(/\s+/);
  if (platform === "" || value === "" || rest.length > 0) {
    return "X-Broker-API-Originating-Identity is a platform and a Base64 value";
  }
  if (platform.length > PLATFORM_LENGTH_MAX) return "the originating platform's name is too long";
  const text = Buffer.from(value, "base64").toString();
  if (text.length > IDENTITY_SIZE_MAX) {
    return `the originating identity is larger than ${IDENTITY_SIZE_MAX} bytes`;
  }
  const identity = parsed(text);
  if (identity === undefined || !isObject(identity))
    return "the originating identity is not a JSON object in Base64";
  return { platform, identity };
}

/** To be sent back: "Request Identity". */
export function requestIdentity(header: unknown): string | undefined {
  return typeof header === "string" && REQUEST_IDENTITY.test(header) ? header : undefined;
}

function parsed(text: string): z.core.util.JSONType | undefined {
  try {
    return JSON.parse(text) as z.core.util.JSONType;
  } catch {
    return undefined; // Told to the caller as a problem.
  }
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

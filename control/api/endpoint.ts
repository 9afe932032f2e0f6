/**
 * What an endpoint is: a row that says who may call it, what it takes and what it answers. Routes,
 * checks and the OpenAPI document are made from the rows; nothing about an endpoint stands twice,
 * and one without a role does not compile.
 */
import type { z } from "zod";
import type { OperatorRole } from "../../core/cluster/records.ts";
import type { Context, Parts } from "../operations/change.ts";
import type { Outcome } from "../operations/outcome.ts";

export type Method = "GET" | "POST" | "PATCH" | "DELETE";

/** What endpoints work with. */
export interface Desk {
  readonly parts: Parts;
  readonly version: string;
  /** How long the cluster state has been away; undefined while it can be reached. */
  awayMs(): number | undefined;
}

/** One call: login and input are checked. */
export interface Call<B = unknown, Q = unknown> {
  readonly desk: Desk;
  readonly parts: Parts;
  readonly context: Context;
  /** Segments of the path by their names. */
  readonly params: Readonly<Record<string, string>>;
  readonly body: B;
  readonly query: Q;
}

export interface Endpoint {
  readonly method: Method;
  /** Like `/v1/caches/{name}`. */
  readonly path: string;
  readonly summary: string;
  /** The least role of a token that may. */
  readonly role: OperatorRole;
  /** Whether a credential with the right `api` may, too, for its own cache (`{name}`). */
  readonly forCredential: boolean;
  readonly body?: z.ZodObject;
  readonly query?: z.ZodObject;
  /** Absent: there is nothing to answer (204). */
  readonly answer?: z.ZodObject;
  /** Of what was made, for the Location header: the answer is 201. */
  readonly location?: (value: unknown) => string;
  /** A change may be waited for: until proxies have it, or the shards of the cache as well. */
  readonly waitsFor?: "proxies" | "shards";
  /** It was asked for, but has not happened yet: the answer is 202. */
  readonly isLate?: (value: unknown) => boolean;
  readonly run: (call: Call) => Promise<Outcome<unknown>> | Outcome<unknown>;
}

type Typed<B extends z.ZodObject, Q extends z.ZodObject, A extends z.ZodObject> = Omit<
  Endpoint,
  "body" | "query" | "answer" | "location" | "isLate" | "run"
> & {
  readonly body?: B;
  readonly query?: Q;
  readonly answer?: A;
  readonly location?: (value: z.output<A>) => string;
  readonly isLate?: (value: z.output<A>) => boolean;
  readonly run: (
    call: Call<z.output<B>, z.output<Q>>,
  ) => Promise<Outcome<z.output<A>>> | Outcome<z.output<A>>;
};

/** A row whose `run` gets what its schemas let through and answers what its answer says. */
export function endpoint<
  B extends z.ZodObject = z.ZodObject,
  Q extends z.ZodObject = z.ZodObject,
  A extends z.ZodObject = z.ZodObject,
>(row: Typed<B, Q, A>): Endpoint {
  return row as unknown as Endpoint;
}

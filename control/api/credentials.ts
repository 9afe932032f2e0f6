/** Endpoints of credentials. */
import { z } from "zod";
import {
  credentialAnswer,
  credentialChangeInput,
  madeCredentialAnswer,
  newCredentialInput,
  rotationInput,
} from "../operations/credential-shapes.ts";
import {
  changeCredential,
  createCredential,
  deleteCredential,
  listCredentials,
  promoteCredential,
  rotateCredential,
  type Subject,
  showCredential,
} from "../operations/credentials.ts";
import { type Endpoint, endpoint } from "./endpoint.ts";
import { nextAnswer, pageQuery } from "./paging.ts";

const ALL = "/v1/caches/{name}/credentials";
const ONE = `${ALL}/{username}`;

type Params = Readonly<Record<string, string>>;
const subject = ({ name = "", username = "" }: Params): Subject => ({ cache: name, username });
const locationOf = ({ cache, username }: { cache: string; username: string }): string =>
  `/v1/caches/${encodeURIComponent(cache)}/credentials/${encodeURIComponent(username)}`;

export const CREDENTIAL_ENDPOINTS: readonly Endpoint[] = [
  endpoint({
    method: "GET",
    path: ALL,
    summary: "Credentials of a cache, with when and from where each is used",
    role: "viewer",
    forCredential: true,
    query: pageQuery,
    answer: z.strictObject({ credentials: z.array(credentialAnswer), next: nextAnswer }),
    run: ({ parts, params, query }) => listCredentials(parts, params["name"] ?? "", query),
  }),
  endpoint({
    method: "POST",
    path: ALL,
    summary:
      "Make a credential, or import a login that exists elsewhere; the password is shown once",
    role: "operator",
    forCredential: true,
    body: newCredentialInput,
    answer: madeCredentialAnswer,
    location: locationOf,
    waitsFor: "proxies",
    run: ({ parts, context, params, body }) =>
      createCredential(parts, context, params["name"] ?? "", body),
  }),
  endpoint({
    method: "GET",
    path: ONE,
    summary: "One credential",
    role: "viewer",
    forCredential: true,
    answer: credentialAnswer,
    run: ({ parts, params }) =>
      showCredential(parts, params["name"] ?? "", params["username"] ?? ""),
  }),
  endpoint({
    method: "PATCH",
    path: ONE,
    summary: "Change rights, label, expiry or networks; sessions that live follow",
    role: "operator",
    forCredential: true,
    body: credentialChangeInput,
    answer: credentialAnswer,
    waitsFor: "proxies",
    run: ({ parts, context, params, body }) =>
      changeCredential(parts, context, subject(params), body),
  }),
  endpoint({
    method: "DELETE",
    path: ONE,
    summary: "Delete a credential; its sessions are closed. The last one only with force",
    role: "operator",
    forCredential: true,
    query: z.strictObject({
      force: z.enum(["true", "false"]).optional().describe("Also when it is the last one"),
    }),
    waitsFor: "proxies",
    run: ({ parts, context, params, query }) =>
      deleteCredential(parts, context, subject(params), { force: query.force === "true" }),
  }),
  endpoint({
    method: "POST",
    path: `${ONE}/rotate`,
    summary: "Make a new one like it; the old one works until the overlap is over, then dies",
    role: "operator",
    forCredential: true,
    body: rotationInput,
    answer: madeCredentialAnswer,
    location: locationOf,
    waitsFor: "proxies",
    run: ({ parts, context, params, body }) =>
      rotateCredential(parts, context, subject(params), body),
  }),
  endpoint({
    method: "POST",
    path: `${ONE}/promote`,
    summary: "Make it the primary credential of its cache",
    role: "operator",
    forCredential: true,
    answer: credentialAnswer,
    waitsFor: "proxies",
    run: ({ parts, context, params }) => promoteCredential(parts, context, subject(params)),
  }),
];

/** The OpenAPI document says what the rows say, and a stranger's validator agrees that it is one. */
import { Validator } from "@seriousme/openapi-schema-validator";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ENDPOINTS } from "../../../control/api/rows.ts";
import { openRig, type Rig } from "./rig.ts";

let rig: Rig;
beforeAll(async () => {
  rig = await openRig();
});
afterAll(() => rig.close());

test("the document is valid OpenAPI 3.1", async () => {
  const { status, body } = await rig.call("GET /openapi.json", { as: null });
  expect(status).toBe(200);
  const validator = new Validator();
  const { valid, errors } = await validator.validate(body);
  expect(errors ?? []).toEqual([]);
  expect(valid).toBe(true);
  expect(validator.version).toBe("3.1");
});

test("every endpoint is in it, with who may call it", async () => {
  const { paths } = (await rig.call("GET /openapi.json")).body;
  const ids = new Set<string>();
  for (const { method, path, role, forCredential } of ENDPOINTS) {
    const operation = paths[path][method.toLowerCase()];
    expect(operation.description).toContain(role);
    expect(operation.security).toHaveLength(forCredential ? 2 : 1);
    ids.add(operation.operationId);
  }
  expect(ids.size).toBe(ENDPOINTS.length);
});

test("the page for people names every endpoint and runs nothing", async () => {
  const { status, headers, text } = await rig.call("GET /docs", { as: null });
  expect(status).toBe(200);
  expect(headers["content-security-policy"]).toMatch(/^default-src 'none'; style-src 'sha256-/);
  expect(text).not.toMatch(/<script|\son\w+=|https?:\/\/(?!127\.0\.0\.1)/);
  for (const { method, path } of ENDPOINTS) expect(text).toContain(`${method} ${path}`);
});

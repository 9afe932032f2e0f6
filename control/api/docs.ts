/**
 * The admin API for people with a browser: one page made from the rows, readable offline. Without
 * a single script, so that nothing on it can ever run beside an operator's token.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { escapeHtml } from "../page.ts";
import type { Endpoint } from "./endpoint.ts";

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid #8884; padding: .3rem .6rem; text-align: left; vertical-align: top }
pre { overflow-x: auto; background: #8881; padding: .6rem; border-radius: .3rem }
details { border-bottom: 1px solid #8884; padding: .4rem 0 }
summary { cursor: pointer } summary code { font-weight: 600 }
.who { color: #777; font-size: .9rem }
:root { color-scheme: light dark }
`;
const STYLE_HASH = createHash("sha256").update(STYLE).digest("base64");
export const DOCS_POLICY = `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

export function docsPage(endpoints: readonly Endpoint[], version: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Memward admin API</title>
<style>${STYLE}</style>
<h1>Memward ${escapeHtml(version)}: admin API</h1>
<p>Log in with <code>Authorization: Bearer mwt_…</code>; the first owner's token is in
<code>operator.token</code> of the data directory. A credential with the right <code>api</code> logs
in with HTTP Basic and manages its own cache. Bodies and answers are JSON; what is refused is told as
problem+json (RFC 9457), every problem by its path. <code>?wait=applied</code> on a change answers when
every proxy has it. For programs there is <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>
<pre>TOKEN=$(cat .memward/operator.token)
curl -H "authorization: Bearer $TOKEN" http://127.0.0.1:8211/v1/caches</pre>
${endpoints.map(section).join("\n")}
</html>
`;
}

function section(row: Endpoint): string {
  const { method, path, summary, role, forCredential, body, query, answer, waitsFor } = row;
  const who = forCredential ? `${role}, or a credential of the cache` : role;
  const waits = waitsFor === undefined ? "" : "<p><code>?wait=applied</code> is understood.</p>";
  return `<details><summary><code>${method} ${escapeHtml(path)}</code> ${escapeHtml(summary)}
<span class="who">${escapeHtml(who)}</span></summary>
${fields("Query", query, "output")}${waits}${fields("Body", body, "input")}${fields("Answer", answer, "output")}
</details>`;
}

type Field = { type?: unknown; description?: unknown; enum?: unknown[]; anyOf?: Field[] };

function fields(title: string, schema: z.ZodObject | undefined, io: "input" | "output"): string {
  if (schema === undefined) return "";
  const json = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  const required = new Set(json.required ?? []);
  const rows = Object.entries(json.properties ?? {}).map(([name, field]) => {
    const { description = "" } = field as Field;
    const needed = io === "input" && required.has(name) ? "required" : "";
    const cells = [name, typeText(field as Field), needed, String(description)];
    return `<tr>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join("")}</tr>`;
  });
  return `<h4>${title}</h4><table>${rows.join("")}</table>`;
}

function typeText({ type, enum: values, anyOf }: Field): string {
  if (values !== undefined) return values.map(String).join(" | ");
  if (anyOf !== undefined) return anyOf.map(typeText).join(" or ");
  return String(type ?? "any");
}

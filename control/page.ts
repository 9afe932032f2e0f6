/** The health page: what runs here and whether it serves, for a person with a browser. */
import type { RoleView } from "../core/runtime/process.ts";

export interface Health {
  version: string;
  roles: readonly RoleView[];
  notReady: readonly string[];
}

export function healthPage({ version, roles, notReady }: Health): string {
  const ready = notReady.length === 0;
  const verdict = ready ? "Ready: clients are served." : `Not ready: ${notReady.join(", ")}.`;
  const rows = roles.map((role) => {
    const cells = [role.role, role.name, String(role.pid ?? "–"), role.addresses.join(" ")];
    const state = role.ready ? '<td class="yes">ready</td>' : '<td class="no">not ready</td>';
    return `<tr>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join("")}${state}</tr>`;
  });
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="5">
<title>Memward: ${ready ? "ready" : "not ready"}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid #8884; padding: .3rem .6rem; text-align: left }
td { overflow-wrap: anywhere }
.yes { color: #187a2f } .no { color: #b3261e }
:root { color-scheme: light dark }
</style>
<h1>Memward ${escapeHtml(version)}</h1>
<p class="${ready ? "yes" : "no"}">${escapeHtml(verdict)}</p>
<table>
<tr><th>Role</th><th>Name</th><th>Process</th><th>Addresses</th><th>State</th></tr>
${rows.join("\n")}
</table>
<p><a href="/metrics">metrics</a> · <a href="/readyz">readyz</a> · <a href="/healthz">healthz</a></p>
</html>
`;
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (letter) => ENTITIES[letter] ?? letter);
}

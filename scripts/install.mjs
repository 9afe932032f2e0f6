/**
 * Installs the npm packages when they are missing or are not those of package-lock.json, and builds
 * the addon of the io layer where it can be; otherwise does nothing, in a few milliseconds. Plain JavaScript for Node 20: it runs before the pinned
 * Node is there. Used by `npm start` and `npm test`.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildAddon } from "../core/io/native/build.mjs";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const MODULES = join(ROOT, "node_modules");

/** What the lock file wants and npm's own record does not have; undefined when all is there. */
export function missingPackage() {
  const wanted = readPackages(join(ROOT, "package-lock.json"));
  const present = readPackages(join(MODULES, ".package-lock.json"));
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    // Optional ones are for other platforms; those that fit were installed with the rest.
    if (path === "" || optional === true) continue;
    if (present[path]?.version !== version) return path.replace(/^node_modules\//, "");
  }
  // The package `node` fetches the runtime itself in its install script.
  return existsSync(join(MODULES, ".bin", "node")) ? undefined : "node";
}

/** False when the packages cannot be had. Without the addon everything runs, at more CPU. */
export function install() {
  if (!installPackages()) return false;
  const problem = buildAddon();
  if (problem !== undefined) console.error(`memward: io layer net, not native: ${problem}`);
  return true;
}

function installPackages() {
  const missing = missingPackage();
  if (missing === undefined) return true;
  console.error(`memward: installing npm packages (${missing} is missing), about half a minute…`);
  const npm = spawnSync("npm", ["ci", "--include=dev", "--no-audit", "--no-fund"], {
    cwd: ROOT,
    encoding: "utf8",
    shell: process.platform === "win32",
    env: {
      ...process.env,
      // The pinned Node is being replaced, so the one of the system does it.
      PATH: withoutModules(process.env.PATH ?? ""),
      npm_config_loglevel: "error",
      npm_config_update_notifier: "false",
    },
  });
  if (npm.status === 0) return true;
  const told = `${npm.stdout ?? ""}${npm.stderr ?? npm.error ?? ""}`.trim().split("\n");
  for (const line of told.slice(-12)) console.error(`  ${line}`);
  const offline = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|network/i.test(told.join("\n"));
  console.error(
    offline
      ? "memward: the npm registry cannot be reached; connect this machine and try again"
      : "memward: npm ci failed, see above",
  );
  return false;
}

function readPackages(path) {
  if (!existsSync(path)) return {};
  return JSON.parse(readFileSync(path, "utf8")).packages ?? {};
}

function withoutModules(path) {
  const folders = path.split(delimiter);
  return folders.filter((folder) => !folder.includes("node_modules")).join(delimiter);
}

if (process.argv[1] === fileURLToPath(import.meta.url) && !install()) process.exitCode = 1;

/**
 * Compiles the addon when there is a C compiler, in about two seconds; where there is none, or on
 * another system than Linux, nothing is built and the `net` layer serves. The hash of the sources
 * is in the file's name, so a change of them is built again. Plain JavaScript for Node 20: npm runs
 * it (`prepare`) before the pinned Node is there.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const MODULES = join(HERE, "../../../node_modules");
/** No clone tracks it, and it goes with the packages. The compile cache, which is emptied, is not it. */
const CACHE = join(MODULES, ".cache/memward-io");
const SOURCES = ["addon.c", "sockets.c", "sockets.h"];
const FLAGS = ["-O2", "-std=gnu17", "-shared", "-fPIC", "-Wall", "-Wextra"];

/** Where the addon of these sources is, if it was built. */
export function addonPath() {
  const hash = createHash("sha256").update([process.arch, ...FLAGS].join(" "));
  for (const name of SOURCES) hash.update(readFileSync(join(HERE, name)));
  return join(CACHE, `io-${hash.digest("hex").slice(0, 16)}.node`);
}

/** Builds what is missing. Says why it could not; undefined when the addon is there. */
export function buildAddon() {
  if (process.platform !== "linux") return "it needs Linux (epoll)";
  const path = addonPath();
  if (existsSync(path)) return undefined;
  const headers = join(MODULES, "node-api-headers/include");
  if (!existsSync(headers)) return "the package node-api-headers is not installed";
  mkdirSync(CACHE, { recursive: true });
  // Others may start at the same moment: the file appears whole or not at all.
  const fresh = `${path}.${process.pid}`;
  const sources = SOURCES.filter((name) => name.endsWith(".c")).map((name) => join(HERE, name));
  const compiler = spawnSync("cc", [...FLAGS, "-I", headers, "-o", fresh, ...sources], {
    encoding: "utf8",
  });
  if (compiler.status === 0) {
    renameSync(fresh, path);
    return undefined;
  }
  rmSync(fresh, { force: true });
  if (compiler.error !== undefined) return `no C compiler: ${compiler.error.message}`;
  return `cc failed:\n${compiler.stderr.trim()}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const problem = buildAddon();
  if (problem !== undefined) console.error(`memward: io layer net, not native: ${problem}`);
}

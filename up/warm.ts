/**
 * Node's compile cache, filled before anything is started. Without it every process strips the
 * types of every source itself, which costs 20 MB of memory in each (measured) and a third of a
 * second; with it a process loads finished code. A cold or unwritable cache only costs that.
 */
import { spawn } from "node:child_process";
import {
  accessSync,
  constants,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { sleep } from "../core/runtime/clock.ts";

const WARM_MS_MAX = 20_000;
const SOURCES = ["cli", "core", "proxy", "backend", "control", "up"];
const STAMP = "warm-for";
/**
 * Flags of V8, measured on Node 26: the optimizing compilers cost 8 MB in an idle process, and the
 * supervisor has no hot code. Roles keep them: without, they are slow for seconds after the start.
 */
const TUNED_FOR = "26";
const FLAGS: Readonly<Record<"supervisor" | "role", readonly string[]>> = {
  supervisor: ["--no-opt", "--no-maglev"],
  role: [],
};
/** Set for the process that starts over: whatever the cache is now, it does not try again. */
const STARTED_OVER = "MEMWARD_STARTED_OVER";

/**
 * Makes sure that this process and the roles it will start come from the cache. If it had to be
 * filled, or this process did not use it, the process starts over in place (same pid).
 */
export async function startFromCache(it: {
  root: string;
  dataDir: string;
  program: string;
}): Promise<void> {
  if (process.env[STARTED_OVER] !== undefined) {
    delete process.env[STARTED_OVER];
    return;
  }
  const folder = cacheFolder(it);
  const env = { ...process.env, NODE_COMPILE_CACHE: folder.path };
  const key = sourcesKey(it.root);
  const stamp = join(folder.path, STAMP);
  const isWarm = readText(stamp) === key;
  const flags = flagsFor("supervisor");
  const isTuned = flags.every((flag) => process.execArgv.includes(flag));
  if (isWarm && isTuned && process.env["NODE_COMPILE_CACHE"] === folder.path) return;
  if (!isWarm) {
    try {
      if (folder.own) rmSync(folder.path, { recursive: true, force: true });
      mkdirSync(folder.path, { recursive: true, mode: 0o700 });
      const sets = [flags, flagsFor("role")]; // Compiled code is valid for one set of flags.
      const codes = await Promise.all(
        sets.map((set) => compileAll({ program: it.program, flags: set, env })),
      );
      if (codes.some((code) => code !== 0)) return;
      writeFileSync(stamp, key);
    } catch {
      return; // A full or read-only disk: slower and larger, but it runs.
    }
  }
  process.execve?.(process.execPath, [process.execPath, ...flags, ...process.argv.slice(1)], {
    ...env,
    [STARTED_OVER]: "1",
  });
}

/** Where compiled code is kept: as the environment says, else with the installation, else here. */
function cacheFolder({ root, dataDir }: { root: string; dataDir: string }): {
  path: string;
  /** We made it and may empty it. */
  own: boolean;
} {
  const shared = join(root, "node_modules", ".cache", "memward");
  const given = process.env["NODE_COMPILE_CACHE"];
  if (given !== undefined && given !== "") return { path: given, own: given === shared };
  try {
    accessSync(join(root, "node_modules"), constants.W_OK);
    return { path: shared, own: true };
  } catch {
    return { path: join(dataDir, "cache"), own: true }; // A read-only installation.
  }
}

/** How a process of that kind runs: our flags behind those that this process was given. */
export function flagsFor(kind: keyof typeof FLAGS): string[] {
  const tuned = process.versions.node.split(".")[0] === TUNED_FOR ? FLAGS[kind] : [];
  const ours = [...FLAGS.supervisor, ...FLAGS.role];
  const given = process.execArgv.filter(
    (flag) => !flag.startsWith("--inspect") && !ours.includes(flag), // A debugger stays with us.
  );
  return [...given, ...tuned];
}

function compileAll(it: {
  program: string;
  flags: readonly string[];
  env: NodeJS.ProcessEnv;
}): Promise<number | null> {
  const args = [...it.flags, it.program, "warm"];
  const child = spawn(process.execPath, args, { env: it.env, stdio: "ignore" });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code));
  });
  const late = sleep(WARM_MS_MAX).then(() => {
    child.kill("SIGKILL");
    return null;
  });
  return Promise.race([ended, late]);
}

/** Changes when any source, the runtime or a dependency does. */
function sourcesKey(root: string): string {
  const files = SOURCES.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .map((file) => join(folder, file)),
  );
  const facts = [...files, "memward.ts", "package.json"].sort().map((file) => {
    const { mtimeMs, size } = statSync(join(root, file));
    return `${file} ${mtimeMs} ${size}`;
  });
  const flags = [flagsFor("supervisor"), flagsFor("role")].map((set) => set.join(" "));
  return [process.version, ...flags, ...facts].join("\n");
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined; // Not there yet, or not ours: the cache counts as cold.
  }
}

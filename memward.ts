/**
 * The command line: a table of commands from which help, parsing, environment variables and the
 * sentences about bad input come. The only file that knows every role; each is loaded when its
 * command runs, so a process pays for what it does and nothing else.
 */
import { readFileSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { z } from "zod";
import type { ClusterState } from "./core/cluster/state.ts";
import type { Checked, OptionRow, Problem } from "./core/runtime/config.ts";
import type { Logger } from "./core/runtime/log.ts";
import { loadZodLean } from "./core/runtime/memory.ts";
import type { RunningRole } from "./core/runtime/role.ts";

type Options = Record<string, unknown>;

interface Command {
  name: string;
  summary: string;
  /** Words after the command, as help shows them. */
  words?: string;
  hidden?: boolean;
  /** Rows of its options; absent when it has none. */
  schema?(): Promise<z.ZodObject>;
  /** Which options of a configuration file are this command's; absent when it reads none. */
  fromFile?(file: ConfigFile): Options;
  run(options: Options, words: readonly string[]): Promise<number | undefined>;
}

interface ConfigFile {
  dataDir?: string | undefined;
  state?: string | undefined;
  ops?: string | undefined;
  log?: { level?: string | undefined } | undefined;
  proxy?: Options | undefined;
  backend?: Options | undefined;
  up?: Options | undefined;
}

/** Every module that is loaded on demand; `memward warm` compiles them all beforehand. */
const LOAD = {
  config: () => import("./core/runtime/config.ts"),
  process: () => import("./core/runtime/process.ts"),
  up: () => import("./up/main.ts"),
  upOptions: () => import("./up/options.ts"),
  upRole: () => import("./up/role.ts"),
  upStatus: () => import("./up/status.ts"),
  control: () => import("./control/main.ts"),
  proxy: () => import("./proxy/main.ts"),
  proxyOptions: () => import("./proxy/options.ts"),
  backend: () => import("./backend/main.ts"),
  backendOptions: () => import("./backend/options.ts"),
  zod: () => import("zod"),
} as const;

const ROOT = dirname(fileURLToPath(import.meta.url));
const EXIT_REFUSED = 2;

const COMMANDS: readonly Command[] = [
  {
    name: "up",
    summary: "run everything on this machine: state, control, proxies and backend nodes",
    schema: async () => (await LOAD.upOptions()).upOptions,
    fromFile: (file) => ({ ...shared(file), ...file.up }),
    run: runUp,
  },
  {
    name: "proxy",
    summary: "run one proxy; its options are the section proxy of the configuration file",
    schema: roleSchema,
    run: (options) => runRole("proxy", options),
  },
  {
    name: "backend",
    summary: "run one backend node; its options are the section backend of the file",
    schema: roleSchema,
    run: (options) => runRole("backend", options),
  },
  {
    name: "status",
    summary: "list every role of a running instance; exit code 3 when none runs",
    schema: async () => (await LOAD.upOptions()).statusOptions,
    run: async (options) => {
      const { status } = await LOAD.upStatus();
      return status(options as Parameters<typeof status>[0], print);
    },
  },
  {
    name: "config check",
    summary: "check a configuration file and list every problem in it",
    words: "[FILE]",
    schema: async () => {
      const { z } = await LOAD.zod();
      return z.strictObject({ config: (await LOAD.upOptions()).configFile.optional() });
    },
    run: async ({ config }, words) => {
      const path = config ?? words[0];
      if (path === undefined) throw await refusal("memward config check needs --config FILE");
      await readConfig(String(path));
      print(`${path} is valid\n`);
      return 0;
    },
  },
  {
    name: "help",
    summary: "explain memward, or one command",
    words: "[COMMAND]",
    run: async (_, words) => help(words.join(" ")),
  },
  {
    name: "version",
    summary: "print the version",
    run: async () => {
      print(`memward ${version()} (node ${process.version})\n`);
      return 0;
    },
  },
  {
    name: "warm",
    summary: "fill the compile cache for the next starts",
    hidden: true,
    run: async () => {
      const drawing = [import("pino-pretty"), import("yaml"), import("node:http")];
      await Promise.all([...Object.values(LOAD).map((load) => load()), ...drawing]);
      return 0;
    },
  },
];

type Start = (
  options: never,
  context: { state: ClusterState; log: Logger },
) => Promise<RunningRole>;

/** The roles that run as processes of their own. */
const ROLES = {
  proxy: {
    schema: async (): Promise<z.ZodObject> => (await LOAD.proxyOptions()).proxyOptions,
    start: async (): Promise<Start> => (await LOAD.proxy()).startProxy,
  },
  backend: {
    schema: async (): Promise<z.ZodObject> => (await LOAD.backendOptions()).backendOptions,
    start: async (): Promise<Start> => (await LOAD.backend()).startBackend,
  },
} as const;

async function runUp(options: Options): Promise<undefined> {
  const { up } = await LOAD.up();
  await up(options as Parameters<typeof up>[0], {
    root: ROOT,
    version: version(),
    program: join(ROOT, "memward.ts"),
    print,
    // The page is loaded when the ports are known to be free.
    startControl: async (controlOptions, context) => {
      const { startControl } = await LOAD.control();
      return startControl(controlOptions, context);
    },
  });
}

/** One role in this process: under the supervisor with its orders, or alone with a file. */
async function runRole(name: keyof typeof ROLES, options: Options): Promise<undefined> {
  const { runSupervised, runAlone } = await LOAD.upRole();
  const role = ROLES[name];
  const [schema, start] = await Promise.all([role.schema(), role.start()]);
  const starter = { name, version: version(), schema, start };
  if (options["supervised"] === true) return runSupervised(starter);
  if (options["config"] === undefined) {
    throw await refusal(`memward ${name} needs --config FILE with a section ${name}`);
  }
  const { checked } = await readConfig(String(options["config"]));
  const section = checked[name];
  if (section === undefined) {
    throw await refusal(`${options["config"]} has no section ${name}`);
  }
  return runAlone(starter, { ...options, section });
}

async function roleSchema(): Promise<z.ZodObject> {
  const { z } = await LOAD.zod();
  const { configFile, dataDir, logLevel, ops } = await LOAD.upOptions();
  return z.strictObject({
    config: configFile.optional(),
    dataDir,
    ops: ops.optional().describe("/metrics, /healthz and /readyz of this role, HOST:PORT"),
    logLevel,
    supervised: z.boolean().default(false).describe("take orders from memward up"),
  });
}

/**
 * The whole file, checked as a whole: a mistake in any section is told, whoever reads it.
 * `given` has only what is written there, for a default of the file must not beat a variable.
 */
async function readConfig(path: string): Promise<{ given: ConfigFile; checked: ConfigFile }> {
  const { z } = await LOAD.zod();
  const { check, readConfigFile } = await LOAD.config();
  const { logLevel, ops, upOptions } = await LOAD.upOptions();
  const read = await readConfigFile(path);
  if (!read.ok) throw await refusal(...read.problems.map(sentence));
  const proxy = await ROLES.proxy.schema();
  const backend = await ROLES.backend.schema();
  const schema = z.strictObject({
    dataDir: z.string().min(1).optional().describe("directory of the state"),
    state: z.enum(["sqlite"]).optional().describe("where the cluster state is kept"),
    ops: ops.optional().describe("address of the ops port"),
    log: z.strictObject({ level: logLevel.optional() }).optional().describe("logging"),
    proxy: proxy.optional().describe("options of memward proxy"),
    backend: backend.optional().describe("options of memward backend"),
    up: upOptions.omit({ config: true }).partial().optional().describe("options of memward up"),
  });
  const checked: Checked<ConfigFile> = check(schema, read.value);
  if (!checked.ok)
    throw await refusal(
      ...checked.problems.map(({ where, message }) =>
        sentence({ where: `${path}: ${where}`, message }),
      ),
    );
  return { given: read.value as ConfigFile, checked: checked.value };
}

function shared(file: ConfigFile): Options {
  const found = { dataDir: file.dataDir, ops: file.ops, logLevel: file.log?.level };
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
}

async function main(argv: readonly string[]): Promise<number | undefined> {
  if (argv.length === 0 || argv[0] === "--help" || argv[0] === "-h") return help("");
  if (argv[0] === "--version" || argv[0] === "-v") return main(["version"]);
  const command = COMMANDS.find(({ name }) =>
    name.split(" ").every((word, at) => argv[at] === word),
  );
  if (command === undefined) {
    throw await refusal(`unknown command ${quoted(argv[0])}; memward help lists the commands`);
  }
  const { optionRows, resolveOptions } = await LOAD.config();
  const schema = await command.schema?.();
  const rows = schema === undefined ? [] : optionRows(schema);
  const given = await parseFlags(command, rows, argv.slice(command.name.split(" ").length));
  if (given.flags["help"] === true) return help(command.name);
  if (schema === undefined) return command.run({}, given.words);
  const file = await fileOptions(command, given.flags);
  const checked = resolveOptions(schema, { flags: given.flags, variables: process.env, file });
  if (!checked.ok) throw await refusal(...checked.problems.map(sentence));
  return command.run(checked.value, given.words);
}

async function fileOptions(command: Command, flags: Options): Promise<Options> {
  const path = flags["config"] ?? process.env["MEMWARD_CONFIG"];
  if (typeof path !== "string" || path === "") return {};
  const fromFile = command.fromFile ?? shared;
  if (command.name === "config check" || command.name === "status") return {};
  return fromFile((await readConfig(path)).given);
}

/** Flags by the rows; whatever is not in them is refused by name. */
async function parseFlags(
  command: Command,
  rows: readonly OptionRow[],
  args: readonly string[],
): Promise<{ flags: Options; words: string[] }> {
  const byFlag = new Map(rows.map((row) => [row.flag, row]));
  const help = { type: "boolean", short: "h" } as const;
  const kinds = rows.map((row) => {
    const type = row.kind === "switch" ? ("boolean" as const) : ("string" as const);
    return [row.flag, { type }] as const;
  });
  const { tokens } = parseArgs({
    args: [...args],
    options: { ...Object.fromEntries(kinds), help },
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const flags: Options = {};
  const words: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") words.push(token.value);
    if (token.kind !== "option") continue;
    const row = byFlag.get(token.name);
    if (token.name === "help") flags["help"] = true;
    else if (row === undefined) {
      const where = `memward help ${command.name} lists the flags`;
      throw await refusal(`unknown flag ${token.rawName}; ${where}`);
    } else if (row.kind === "switch") flags[row.key] = token.value ?? true;
    else if (token.value === undefined || (!token.inlineValue && token.value.startsWith("--"))) {
      throw await refusal(`flag ${token.rawName} needs a value`);
    } else if (row.kind === "list") {
      flags[row.key] = [...((flags[row.key] as string[] | undefined) ?? []), token.value];
    } else if (flags[row.key] !== undefined) {
      throw await refusal(`flag ${token.rawName} is given twice`);
    } else flags[row.key] = token.value;
  }
  if (words.length > 0 && command.words === undefined) {
    throw await refusal(`unexpected ${quoted(words[0])}; memward help ${command.name} explains`);
  }
  return { flags, words };
}

async function help(name: string): Promise<number> {
  const command = COMMANDS.find((one) => one.name === name && !one.hidden);
  if (name === "") {
    const visible = COMMANDS.filter(({ hidden }) => !hidden);
    const width = Math.max(...visible.map((one) => one.name.length));
    const lines = visible.map((one) => `  ${one.name.padEnd(width)}  ${one.summary}`);
    print(`Memward: managed memcached that you run yourself.

Usage: memward COMMAND [FLAGS]

${lines.join("\n")}

memward help COMMAND lists its flags. Each flag is also a variable: --data-dir is
MEMWARD_DATA_DIR; values of a repeated flag are separated by commas. The nearest wins: flag,
variable, configuration file, default. All are read once, when the command starts.

Exit codes: 0 done, 1 failed, 2 refused (bad input, port taken, directory in use), 3 not running.
`);
    return 0;
  }
  if (command === undefined) {
    throw await refusal(`unknown command ${quoted(name)}; memward help lists the commands`);
  }
  const { optionRows, optionsHelp } = await LOAD.config();
  const schema = await command.schema?.();
  const rows = schema === undefined ? [] : optionRows(schema);
  const shown = rows.filter(({ flag }) => flag !== "supervised");
  const usage = ["memward", command.name, shown.length > 0 ? "[FLAGS]" : "", command.words ?? ""];
  print(`Usage: ${usage.filter(Boolean).join(" ")}\n\n${command.summary}\n`);
  if (shown.length > 0) print(`\n${optionsHelp(shown)}\n`);
  return 0;
}

async function refusal(...sentences: string[]): Promise<Error> {
  const { Refusal } = await LOAD.process();
  return new Refusal(sentences.join("\nmemward: "));
}

function sentence({ where, message }: Problem): string {
  return `${where}: ${message}`;
}

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  return String((manifest as { version?: unknown }).version);
}

function print(text: string): void {
  process.stdout.write(text);
}

const quoted = (text: string | undefined) => JSON.stringify(text ?? "");

// Code compiled before is loaded as it is: half the start, 18 MB less (up/warm.ts fills it).
enableCompileCache(join(ROOT, "node_modules", ".cache", "memward"));
await loadZodLean();
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error; // `memward help | head` is no fault of ours.
});

main(process.argv.slice(2)).then(
  (code) => {
    if (code !== undefined) process.exitCode = code;
  },
  async (error: Error) => {
    if (error.name !== "Refusal") {
      process.stderr.write(`memward: ${error.stack ?? error.message}\n`);
      process.exit(1);
    }
    const { refuse } = await LOAD.process();
    await refuse(error.message);
    process.exit(EXIT_REFUSED);
  },
);

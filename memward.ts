/**
 * The command line: the table of commands and those of them that run roles. The only file that
 * knows every role; each is loaded when its command runs, so a process pays for what it does and
 * nothing else. Flags, help and the commands of the admin API are in `cli`.
 */
import { existsSync, readFileSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { z } from "zod";
import { type Command, type CommandTable, type Options, print } from "./cli/command.ts";
import type { ClusterState } from "./core/cluster/state.ts";
import type { Checked, Problem } from "./core/runtime/config.ts";
import type { Logger } from "./core/runtime/log.ts";
import { loadZodLean } from "./core/runtime/memory.ts";
import type { Refusal } from "./core/runtime/process.ts";
import type { RunningRole } from "./core/runtime/role.ts";

interface ConfigFile {
  dataDir?: string | undefined;
  state?: string | undefined;
  etcd?: Options | undefined;
  ops?: string | undefined;
  log?: { level?: string | undefined } | undefined;
  proxy?: Options | undefined;
  backend?: Options | undefined;
  control?: Options | undefined;
  monitor?: Options | undefined;
  up?: Options | undefined;
}

/** Every module that is loaded on demand; `memward warm` compiles them all beforehand. */
const LOAD = {
  config: () => import("./core/runtime/config.ts"),
  process: () => import("./core/runtime/process.ts"),
  state: () => import("./core/cluster/open.ts"),
  dispatch: () => import("./cli/dispatch.ts"),
  help: () => import("./cli/help.ts"),
  connection: () => import("./cli/connection.ts"),
  caches: () => import("./cli/caches.ts"),
  credentials: () => import("./cli/credentials.ts"),
  tokens: () => import("./cli/tokens.ts"),
  nodes: () => import("./cli/nodes.ts"),
  pools: () => import("./cli/pools.ts"),
  views: () => import("./cli/views.ts"),
  incidents: () => import("./cli/incidents.ts"),
  shells: () => import("./cli/shells.ts"),
  completion: () => import("./cli/completion.ts"),
  clusterStatus: () => import("./cli/status.ts"),
  up: () => import("./up/main.ts"),
  upOptions: () => import("./up/options.ts"),
  upRole: () => import("./up/role.ts"),
  upStatus: () => import("./up/status.ts"),
  control: () => import("./control/main.ts"),
  controlOptions: () => import("./control/options.ts"),
  controlView: () => import("./control/view.ts"),
  controlDocs: () => import("./control/api/docs.ts"),
  controlOpenApi: () => import("./control/api/openapi.ts"),
  monitor: () => import("./monitor/main.ts"),
  monitorOptions: () => import("./monitor/options.ts"),
  drilled: () => import("./monitor/config/drilled.ts"),
  health: () => import("./control/health.ts"),
  proxy: () => import("./proxy/main.ts"),
  proxyOptions: () => import("./proxy/options.ts"),
  backend: () => import("./backend/main.ts"),
  backendOptions: () => import("./backend/options.ts"),
  clock: () => import("./core/runtime/clock.ts"),
  zod: () => import("zod"),
} as const;

const ROOT = dirname(fileURLToPath(import.meta.url));

const ROLE_COMMANDS: readonly Command[] = [
  {
    name: "up",
    summary: "run everything on this machine: state, control, proxies and backend nodes",
    schema: async () => (await LOAD.upOptions()).upOptions,
    fromFile: async (path) => {
      const { given } = await readConfig(path);
      if ((given.state ?? "sqlite") !== "sqlite") {
        throw await refusal(`${path}: state: memward up keeps it in SQLite, on its own machine`);
      }
      const control = given.control?.["listen"];
      return { ...shared(given), ...withoutHoles({ control }), ...given.up };
    },
    run: runUp,
  },
  {
    name: "proxy",
    summary: "run one proxy; its options are the section proxy of the configuration file",
    schema: roleSchema,
    fromFile: roleFromFile,
    run: (options) => runRole("proxy", options),
  },
  {
    name: "backend",
    summary: "run one backend node; its options are the section backend of the file",
    schema: roleSchema,
    fromFile: roleFromFile,
    run: (options) => runRole("backend", options),
  },
  {
    name: "control",
    summary: "run the admin API alone; its options are the section control of the file",
    schema: roleSchema,
    fromFile: roleFromFile,
    run: (options) => runRole("control", options),
  },
  {
    name: "monitor",
    summary: "run one monitor; its options are the section monitor of the file",
    schema: roleSchema,
    fromFile: roleFromFile,
    run: (options) => runRole("monitor", options),
  },
  {
    name: "status",
    summary: "list every role of a running instance; exit code 3 when none runs",
    schema: statusSchema,
    // MEMWARD_CONTROL is also an address that `up` opens, and may be set for it.
    variables: ["dataDir", "json", "tokenFile"],
    details: `Without --control it reads the directory of an instance on this machine, and works also while
that is busy. With --control it asks the admin API of a whole cluster.`,
    run: async (options) => {
      if (options["control"] !== undefined) {
        const { clusterStatus } = await LOAD.clusterStatus();
        return clusterStatus(options as Parameters<typeof clusterStatus>[0]);
      }
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
      const { checked } = await readConfig(String(path));
      await checkDrills(String(path), checked);
      print(`${path} is valid\n`);
      return 0;
    },
  },
];

const ABOUT_COMMANDS: readonly Command[] = [
  {
    name: "help",
    summary: "explain memward, or one command",
    words: "[COMMAND…]",
    run: async (_, words) => (await LOAD.help()).help(COMMANDS, words),
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

const roles = async () => ROLE_COMMANDS;
const caches = async () => (await LOAD.caches()).CACHE_COMMANDS;
const credentials = async () => (await LOAD.credentials()).CREDENTIAL_COMMANDS;
const cluster = async () => [
  ...(await LOAD.tokens()).TOKEN_COMMANDS,
  ...(await LOAD.nodes()).NODE_COMMANDS,
  ...(await LOAD.pools()).POOL_COMMANDS,
  ...(await LOAD.views()).VIEW_COMMANDS,
];
const incidents = async () => (await LOAD.incidents()).INCIDENT_COMMANDS;
const about = async () => [
  ...(await LOAD.shells()).completionCommands(() => COMMANDS),
  ...ABOUT_COMMANDS,
];
const COMMANDS: CommandTable = {
  up: roles,
  proxy: roles,
  backend: roles,
  control: roles,
  monitor: roles,
  status: roles,
  config: roles,
  cache: caches,
  credential: credentials,
  env: credentials,
  incident: incidents,
  alert: incidents,
  silence: incidents,
  people: incidents,
  monitors: incidents,
  token: cluster,
  plan: cluster,
  node: cluster,
  pool: cluster,
  proxies: cluster,
  audit: cluster,
  completion: about,
  complete: about,
  help: about,
  version: about,
  warm: about,
};

type Start = (
  options: never,
  context: { state: ClusterState; log: Logger; version: string; dataDir: string },
) => Promise<RunningRole>;

/** The roles that run as processes of their own. */
const ROLES = {
  proxy: {
    schema: async (): Promise<z.ZodObject> => (await LOAD.proxyOptions()).proxyOptions,
    kinds: async () => (await LOAD.proxy()).FOLLOWED_KINDS,
    watched: async () => (await LOAD.proxy()).WATCHED_KINDS,
    start: async (): Promise<Start> => (await LOAD.proxy()).startProxy,
  },
  backend: {
    schema: async (): Promise<z.ZodObject> => (await LOAD.backendOptions()).backendOptions,
    kinds: async () => (await LOAD.backend()).FOLLOWED_KINDS,
    watched: async () => (await LOAD.backend()).FOLLOWED_KINDS,
    start: async (): Promise<Start> => (await LOAD.backend()).startBackend,
  },
  control: {
    schema: async (): Promise<z.ZodObject> => (await LOAD.controlOptions()).controlOptions,
    kinds: async () => (await LOAD.controlView()).FOLLOWED_KINDS,
    watched: async () => undefined,
    start: async (): Promise<Start> => (await LOAD.control()).startControl,
  },
  monitor: {
    schema: async (): Promise<z.ZodObject> => (await LOAD.monitorOptions()).monitorOptions,
    kinds: async () => (await LOAD.monitor()).FOLLOWED_KINDS,
    watched: async () => undefined,
    start: async (): Promise<Start> => (await LOAD.monitor()).startMonitor,
  },
} as const;

async function runUp(options: Options): Promise<undefined> {
  const { up } = await LOAD.up();
  await up(options as Parameters<typeof up>[0], {
    root: ROOT,
    version: version(),
    program: join(ROOT, "memward.ts"),
    print,
    // Loaded when the ports are known to be free.
    startHealth: async (healthOptions, context) => {
      const { startHealth } = await LOAD.health();
      return startHealth(healthOptions, context);
    },
    startControl: async ({ listen, config }, context) => {
      const [{ startControl }, { controlOptions }] = [
        await LOAD.control(),
        await LOAD.controlOptions(),
      ];
      const section = config === undefined ? {} : (await readConfig(config)).checked.control;
      return startControl({ ...controlOptions.parse({}), ...section, listen }, context);
    },
    startMonitor: async ({ config }, context) => {
      const [{ startMonitor }, { monitorOptions }] = [
        await LOAD.monitor(),
        await LOAD.monitorOptions(),
      ];
      const section = config === undefined ? undefined : (await readConfig(config)).checked.monitor;
      return startMonitor((section as never) ?? monitorOptions.parse({}), context);
    },
  });
}

/** One role in this process: under the supervisor with its orders, or alone with a file. */
async function runRole(name: keyof typeof ROLES, options: Options): Promise<undefined> {
  const { runSupervised, runAlone } = await LOAD.upRole();
  const role = ROLES[name];
  const parts = [role.schema(), role.start(), role.kinds(), role.watched()] as const;
  const [schema, start, kinds, watched] = await Promise.all(parts);
  const starter = { name, version: version(), schema, start, kinds, watched };
  if (options["supervised"] === true) return runSupervised(starter);
  const { etcdSectionOf } = await LOAD.upOptions();
  const section = await roleSection(name, { ...options, schema });
  return runAlone(starter, { ...options, etcd: etcdSectionOf(options), section });
}

/** What the file says about the role; with a state elsewhere its defaults may do. */
async function roleSection(
  name: keyof typeof ROLES,
  { config, state, schema }: { config?: unknown; state?: unknown; schema: z.ZodObject },
): Promise<Options> {
  if (config === undefined && state !== "sqlite") return schema.parse({});
  if (config === undefined) {
    throw await refusal(`memward ${name} needs --config FILE with a section ${name}`);
  }
  const { checked } = await readConfig(String(config));
  const section = checked[name];
  if (section === undefined) throw await refusal(`${config} has no section ${name}`);
  return section;
}

async function roleSchema(): Promise<z.ZodObject> {
  const { z } = await LOAD.zod();
  const { configFile, dataDir, logLevel, ops, stateRows } = await LOAD.upOptions();
  return z.strictObject({
    config: configFile.optional(),
    ...stateRows,
    dataDir: dataDir.describe("directory of the SQLite file or the snapshot; made if missing"),
    ops: ops.optional().describe("/metrics, /healthz and /readyz of this role, HOST:PORT"),
    logLevel,
    supervised: z.boolean().default(false).describe("take orders from memward up"),
  });
}

async function statusSchema(): Promise<z.ZodObject> {
  const { control, tokenFile } = (await LOAD.connection()).connectionRows;
  const { statusOptions } = await LOAD.upOptions();
  const asked = control.describe("ask the admin API there, not the directory of an instance");
  return statusOptions.extend({ control: asked, tokenFile });
}

/**
 * The whole file, checked as a whole: a mistake in any section is told, whoever reads it.
 * `given` has only what is written there, for a default of the file must not beat a variable.
 */
async function readConfig(path: string): Promise<{ given: ConfigFile; checked: ConfigFile }> {
  const { z } = await LOAD.zod();
  const { check, readConfigFile } = await LOAD.config();
  const { logLevel, ops, upOptions } = await LOAD.upOptions();
  const { etcdOptions, stateOption, stateProblem } = await LOAD.state();
  const read = await readConfigFile(path);
  if (!read.ok) throw await problemsRefusal(read.problems);
  const proxy = await ROLES.proxy.schema();
  const backend = await ROLES.backend.schema();
  const control = await ROLES.control.schema();
  const schema = z.strictObject({
    dataDir: z.string().min(1).optional().describe("directory of the state"),
    state: stateOption.optional(),
    etcd: etcdOptions.optional().describe("how etcd lets us in"),
    ops: ops.optional().describe("address of the ops port"),
    log: z.strictObject({ level: logLevel.optional() }).optional().describe("logging"),
    proxy: proxy.optional().describe("options of memward proxy"),
    backend: backend.optional().describe("options of memward backend"),
    control: control.optional().describe("options of memward control"),
    // Looked at as a whole below, with what its rows say of each other.
    monitor: z.unknown().optional().describe("whom to tell when something is wrong, and how"),
    up: upOptions.omit({ config: true }).partial().optional().describe("options of memward up"),
  });
  const checked: Checked<Omit<ConfigFile, "monitor">> = check(schema, read.value);
  const monitor = await checkedMonitor(read.value);
  const found = [checked, monitor].flatMap((one) => (one.ok ? [] : one.problems));
  if (!checked.ok || !monitor.ok) {
    throw await problemsRefusal(found.map((one) => ({ ...one, where: `${path}: ${one.where}` })));
  }
  const { state = "sqlite", etcd = {} } = checked.value;
  const problem = stateProblem(state, etcd);
  if (problem !== undefined) throw await refusal(`${path}: ${problem}`);
  const whole = { ...checked.value, monitor: monitor.value };
  return { given: read.value as ConfigFile, checked: whole };
}

/** Beyond the shape of its rows: names that nobody has, hours in which nobody is on call. */
async function checkedMonitor(file: unknown): Promise<Checked<Options | undefined>> {
  const section = (file as { monitor?: unknown } | null)?.monitor;
  if (section === undefined) return { ok: true, value: undefined };
  const { checkMonitorSection } = await LOAD.monitorOptions();
  const { clock } = await LOAD.clock();
  const checked = checkMonitorSection(section, clock.unixMs());
  if (!checked.ok) return { ok: false, problems: [...checked.problems] };
  return { ok: true, value: checked.section };
}

/** Whether people are known to be reachable, as far as the state says. Throws `Refusal`. */
async function checkDrills(path: string, checked: ConfigFile): Promise<void> {
  const people = Object.keys((checked.monitor?.["people"] ?? {}) as object);
  if (people.length === 0) return;
  const { dataDir = ".memward", state: url = "sqlite", etcd = {} } = checked;
  const statePath = join(dataDir, "state.db");
  const { drilledOf, lookAtDrills } = await LOAD.drilled();
  const warn = (text: string) => process.stderr.write(`memward: warning: ${text}\n`);
  const told = ({ where, message }: Problem) => warn(`${path}: ${where}: ${message}`);
  // Looking must not make a state where there is none.
  if (url === "sqlite" && !existsSync(statePath)) {
    return drilledOf(people, []).warnings.forEach(told);
  }
  const { openState } = await LOAD.state();
  const state = await openState({ url, path: statePath, etcd, troubled: () => {} });
  try {
    const { warnings, problems } = await lookAtDrills(state, people);
    warnings.forEach(told);
    const found = problems.map((one) => ({ ...one, where: `${path}: ${one.where}` }));
    if (found.length > 0) throw await problemsRefusal(found);
  } catch (error) {
    if ((error as Error).name !== "StateUnavailable") throw error;
    warn(`drills were not looked at: ${(error as Error).message}`);
  } finally {
    await state.close();
  }
}

async function roleFromFile(path: string): Promise<Options> {
  const { given } = await readConfig(path);
  const { etcdRowsOf } = await LOAD.upOptions();
  const { state, etcd = {} } = given;
  return { ...shared(given), ...withoutHoles({ state, ...etcdRowsOf(etcd) }) };
}

function shared(file: ConfigFile): Options {
  const found = { dataDir: file.dataDir, ops: file.ops, logLevel: file.log?.level };
  return withoutHoles(found);
}

function withoutHoles(options: Options): Options {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

async function refusal(text: string): Promise<Error> {
  const { Refusal } = await LOAD.process();
  return new Refusal(text);
}

/** For the files that problems of `config` are in. */
async function problemsRefusal(problems: readonly Problem[]): Promise<Error> {
  const { refusals, sentence } = await LOAD.dispatch();
  return refusals(problems.map(sentence));
}

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  return String((manifest as { version?: unknown }).version);
}

// Code compiled before is loaded as it is: half the start, 18 MB less (up/warm.ts fills it).
enableCompileCache(join(ROOT, "node_modules", ".cache", "memward"));
await loadZodLean();
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error; // `memward help | head` is no fault of ours.
});

LOAD.dispatch()
  .then(({ dispatch }) => dispatch(COMMANDS, process.argv.slice(2)))
  .then(
    (code) => {
      if (code !== undefined) process.exitCode = code;
    },
    async (error: Error) => {
      if (error.name !== "Refusal") {
        process.stderr.write(`memward: ${error.stack ?? error.message}\n`);
        process.exit(1);
      }
      const { refuse } = await LOAD.process();
      await refuse(error as Refusal);
    },
  );

/**
 * `npm run bench`: Memward beside its peers on the machine at hand. Needs Linux, memcached,
 * nutcracker and a C compiler; takes about eight minutes and wants a machine that does nothing else.
 *
 *   npm run bench -- [--rounds 5] [--seconds 2.2] [--warmup 0.4] [--only g50,m16]
 *                    [--io net|native] [--json bench-results.json] [--noise-floor]
 *
 * How to read the figures:
 * - Only ratios. In each round both proxies get the same load, seconds apart, in alternating
 *   order; the ratio is taken inside the round, and the median of the rounds is what counts.
 *   Generator, proxies and memcacheds share the cores, so values drift, ratios less.
 * - "CPU us/key" is user and system time of the server's process and its children per key.
 * - `--noise-floor` runs the peers against themselves: what differs from 1.0 there is noise, and
 *   no ratio is known better than that.
 * - A closed loop flatters a slow proxy: requests pile up, so each wake-up serves more of them.
 *   r20 has a fixed rate for that reason, and its latency counts from the moment when a request
 *   was due, so a stall costs all the requests that it kept waiting.
 * - p16 and fixed rates are bimodal: they depend on who falls in step with whom. Look at min-max.
 * - `view` is the cost of what a proxy tells monitors, `onset` the time from a real fault to a
 *   condition that pages, `incidents` simulated days (`--hours`) of healthy and of jittery traffic.
 * - `propagation` is no load but 200 changes of the cluster state, `xmpp` the way of a page to its
 *   device, `paging` what the monitor promises from onset to receipt; their tables come last.
 * - Every value is compared with its key. One wrong, missing or failed reply makes the scenario's
 *   figures "invalid".
 *
 * Ends with 0 whether bars are met or missed; the table says which.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { z } from "zod";
import { Loop } from "../../core/io/loop.ts";
import { IO_CHOICES } from "../../core/io/wire.ts";
import { sleep } from "../../core/runtime/clock.ts";
import { missing, temporaryFolder } from "../harness/processes.ts";
import {
  buildGenerator,
  type Generator,
  type Load,
  problemsOf,
  type Target,
  type Timing,
} from "./generator.ts";
import { benchIncidents, incidentsText } from "./incidents.ts";
import { describeMachine, openFilesMax } from "./machine.ts";
import { benchOnset, onsetText } from "./onset.ts";
import { benchPaging, pagingText } from "./paging.ts";
import { benchPropagation, propagationText } from "./propagation.ts";
import { machineText, type Result, type Round, resultOf, type Sample, tableOf } from "./report.ts";
import { type Arena, SCENARIOS, type Scenario, type Storm } from "./scenarios.ts";
import {
  type Server,
  startCrowdedProxy,
  startEmbeddedStore,
  startManyCaches,
  startMemwardProxy,
  startMemwardUp,
  startMemwardWithCopies,
  startMemwardWithPrefix,
  startPeerProxy,
  startPeerStore,
  startShards,
  startStormProxy,
  warmMemward,
} from "./servers.ts";
import { benchView, viewText } from "./viewCost.ts";
import { benchXmpp, xmppText } from "./xmpp.ts";

/** Files of a server besides its sessions: shards, the state, the event loop's own. */
const OPEN_FILES_EXTRA = 200;
/** No loads: they have tables of their own. */
const TABLES = ["propagation", "xmpp", "view", "onset", "incidents", "paging"] as const;
/** What a proxy of the arena "crowd" knows. */
const CREDENTIALS = 100_000;
/** And one of the arena "caches". */
const CACHES = 1_000;
/** A storm begins before what it is to disturb, and ends after it. */
const STORM_LEAD_SECONDS = 0.5;

const optionsSchema = z.strictObject({
  rounds: z.coerce.number().int().min(1).default(5),
  seconds: z.coerce.number().min(0.1).default(2.2),
  warmup: z.coerce.number().min(0).default(0.4),
  hours: z.coerce.number().positive().default(24),
  only: z.string().optional(),
  json: z.string().default("bench-results.json"),
  io: z.enum(IO_CHOICES).default("auto"),
  "noise-floor": z.boolean().default(false),
});
type Options = z.infer<typeof optionsSchema>;

/** The operations of the plan 100mb: the storm may come, and is slowed down. */
const STORM_LIMITS = { operationsPerSecondMax: 10_000 };

type Pair = { subject: Server & { storm?: Target }; peer: Server | undefined };

async function main(): Promise<void> {
  const options = readOptions();
  const scenarios = selectScenarios(options);
  const absent = missing("memcached", "nutcracker");
  if (process.platform !== "linux") return refuse("the load generator needs Linux (epoll)");
  if (absent !== undefined) return refuse(absent);

  // Every Memward below is a child of this process.
  process.env["MEMWARD_IO"] = options.io;
  const machine = { ...describeMachine(), io: new Loop({ io: options.io, slabCount: 1 }).io };
  process.stdout.write(`${machineText(machine)}\n\n`);
  const results = scenarios.length === 0 ? [] : await measureAll(scenarios, options);
  if (results.length > 0) process.stdout.write(`\n${tableOf(results)}\n\n${summaryOf(results)}\n`);
  const propagation = isWanted("propagation", options) ? await benchPropagation() : [];
  if (propagation.length > 0) process.stdout.write(`\n${propagationText(propagation)}\n`);
  const xmpp = isWanted("xmpp", options) ? await benchXmpp() : [];
  if (xmpp.length > 0) process.stdout.write(`\n${xmppText(xmpp)}\n`);
  const view = isWanted("view", options) ? benchView() : [];
  if (view.length > 0) process.stdout.write(`\n${viewText(view)}\n`);
  const onset = isWanted("onset", options) ? await benchOnset(options.rounds) : [];
  if (onset.length > 0) process.stdout.write(`\n${onsetText(onset)}\n`);
  const incidents = isWanted("incidents", options) ? benchIncidents(options.hours) : [];
  if (incidents.length > 0) process.stdout.write(`\n${incidentsText(incidents)}\n`);
  const paging = isWanted("paging", options) ? await benchPaging() : [];
  if (paging.length > 0) process.stdout.write(`\n${pagingText(paging)}\n`);
  const file = { machine, options, results, propagation, xmpp, view, onset, incidents, paging };
  writeFileSync(options.json, `${JSON.stringify(file, null, 1)}\n`);
}

/** A round before the first: servers that have just started are not what runs at noon. */
const UNMEASURED: Timing = { seconds: 2, warmup: 0, seed: 0 };

async function measureAll(scenarios: readonly Scenario[], options: Options): Promise<Result[]> {
  const generator = await buildGenerator(temporaryFolder("memward-bench"));
  if (!options["noise-floor"]) await warmMemward();
  const shards = await startShards();
  const startPair = (arena: Arena): Promise<Pair> =>
    options["noise-floor"] ? startPeers(arena, shards.addresses) : START[arena](shards.addresses);

  const pairs = new Map<Arena, Pair>();
  const rounds = new Map<Scenario, Round[]>(scenarios.map((scenario) => [scenario, []]));
  for (const scenario of scenarios) {
    if (scenario.freshServers) continue;
    const pair = pairs.get(scenario.arena) ?? (await startPair(scenario.arena));
    pairs.set(scenario.arena, pair);
    if (scenario.command !== "run") continue;
    await fill(generator, pair, scenario.peerLoad);
    await measureRound({ generator, pair, scenario, timing: UNMEASURED });
  }
  for (let round = 0; round < options.rounds; round++) {
    for (const scenario of scenarios) {
      const fresh = scenario.freshServers ? await startPair(scenario.arena) : undefined;
      const pair = fresh ?? pairs.get(scenario.arena);
      if (pair === undefined) continue;
      const timing = { seconds: options.seconds, warmup: options.warmup, seed: round };
      const measured = await measureRound({ generator, pair, scenario, timing });
      rounds.get(scenario)?.push(measured);
      process.stderr.write(`round ${round + 1}/${options.rounds} ${scenario.name}\n`);
      if (fresh !== undefined) await stopPair(fresh);
    }
  }
  await Promise.all([...pairs.values()].map(stopPair));
  await shards.stop();
  return scenarios.map((scenario) => resultOf(scenario, rounds.get(scenario) ?? []));
}

const START: Record<Arena, (shards: readonly string[]) => Promise<Pair>> = {
  proxy: async (shards) => ({
    subject: await startMemwardProxy(shards),
    peer: await startPeerProxy(shards),
  }),
  store: async () => ({ subject: await startEmbeddedStore(), peer: await startPeerStore() }),
  up: async (shards) => ({
    subject: await startMemwardUp(),
    peer: await startPeerProxy(shards),
  }),
  prefix: startMemwardWithPrefix,
  copies: async (shards) => ({
    subject: await startMemwardWithCopies(shards),
    peer: await startMemwardProxy(shards),
  }),
  alone: async (shards) => ({ subject: await startMemwardProxy(shards), peer: undefined }),
  storm: async (shards) => {
    const subject = await startStormProxy(shards);
    return { subject, peer: subject };
  },
  limited: async (shards) => {
    const subject = await startStormProxy(shards, STORM_LIMITS);
    return { subject, peer: subject };
  },
  caches: () => startManyCaches(CACHES),
  crowd: async (shards) => ({
    subject: await startCrowdedProxy(shards, CREDENTIALS),
    peer: await startMemwardProxy(shards),
  }),
};

/** The noise floor: what the ratios of two equal servers look like. */
async function startPeers(arena: Arena, shards: readonly string[]): Promise<Pair> {
  const start = arena === "store" ? startPeerStore : () => startPeerProxy(shards);
  return { subject: await start(), peer: await start() };
}

/** Through both, though they share the shards: it also shows that both can write. */
async function fill(generator: Generator, pair: Pair, load: Load): Promise<void> {
  const timing = { seconds: 0, warmup: 0, seed: 0 };
  for (const server of [pair.subject, pair.peer, pair.subject.storm]) {
    // The shards of many caches are those of the peer: what it stores they have.
    if (server === undefined || server.login?.count !== undefined) continue;
    const problems = problemsOf(await generator("fill", server, load, timing));
    if (problems.length > 0)
      throw new Error(`${pair.subject.name} was not filled: ${problems.join()}`);
  }
}

type RoundPlan = { generator: Generator; pair: Pair; scenario: Scenario; timing: Timing };

async function measureRound({ generator, pair, scenario, timing }: RoundPlan): Promise<Round> {
  const { command, load, peerLoad } = scenario;
  const subject = () =>
    sampleOf(
      inStorm(generator, pair.subject.storm, scenario.storm, timing, () =>
        generator(command, pair.subject, load, timing),
      ),
    );
  const { peer: peerServer } = pair;
  if (peerServer === undefined) return { subject: await subject(), peer: undefined };
  const peer = () => sampleOf(generator(command, peerServer, peerLoad, timing));
  if (timing.seed % 2 === 0) return { subject: await subject(), peer: await peer() };
  const peerFirst = await peer();
  return { subject: await subject(), peer: peerFirst };
}

/**
 * Runs `load` while `storm` rages, if there is one; its own figures are not looked at. Who storms
 * stands back, and so do its shards: they take all that the client that is measured and its shards
 * leave of the other cores, and the proxy has one to itself. Otherwise we would measure how an
 * operating system shares two cores.
 */
async function inStorm<T>(
  generator: Generator,
  target: Target | undefined,
  storm: Storm | undefined,
  timing: Timing,
  load: () => Promise<T>,
): Promise<T> {
  if (target === undefined || storm === undefined) return load();
  const seconds = timing.seconds + timing.warmup + 2 * STORM_LEAD_SECONDS;
  const raging = generator(
    storm.command,
    target,
    storm.load,
    { ...timing, seconds, warmup: 0 },
    true,
  );
  await sleep(STORM_LEAD_SECONDS * 1_000);
  const counts = await load();
  await raging;
  return counts;
}

/** A load that cannot run is a finding about its server, not the end of the bench. */
async function sampleOf(running: ReturnType<Generator>): Promise<Sample> {
  try {
    return { ok: true, counts: await running };
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return { ok: false, problem: (stderr?.trim() || message).split("\n")[0] ?? "failed" };
  }
}

const stopPair = ({ subject, peer }: Pair): Promise<unknown> =>
  Promise.all([subject.stop(), peer === subject ? undefined : peer?.stop()]);

const isWanted = (table: (typeof TABLES)[number], options: Options): boolean =>
  !options["noise-floor"] && (options.only?.split(",").includes(table) ?? true);

function selectScenarios(options: Options): Scenario[] {
  const names = options.only?.split(",").filter((name) => !TABLES.some((table) => table === name));
  const unknown = names?.filter((name) => !SCENARIOS.some((scenario) => scenario.name === name));
  if (unknown !== undefined && unknown.length > 0) {
    return refuse(
      `--only: no ${unknown.join(", ")} among ${SCENARIOS.map((s) => s.name).join(" ")}`,
    );
  }
  const openFiles = openFilesMax();
  const offered = options["noise-floor"]
    ? SCENARIOS.filter(isForPeers).map(withoutBars)
    : SCENARIOS;
  return offered
    .filter((scenario) => names?.includes(scenario.name) ?? true)
    .filter((scenario) => {
      const sessions = Math.max(scenario.load.sessions, scenario.storm?.load.sessions ?? 0);
      const isPossible = sessions + OPEN_FILES_EXTRA <= openFiles;
      if (!isPossible)
        process.stdout.write(`not measured: ${scenario.name}, limit of open files\n`);
      return isPossible;
    });
}

const isForPeers = (scenario: Scenario): boolean =>
  scenario.arena !== "alone" &&
  scenario.arena !== "prefix" &&
  scenario.arena !== "copies" &&
  scenario.arena !== "caches" &&
  scenario.load.dialect === "text" &&
  !scenario.freshServers;

const withoutBars = (scenario: Scenario): Scenario => ({
  ...scenario,
  measures: scenario.measures.map(({ atMost: _, ...measure }) => measure),
});

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        rounds: { type: "string" },
        seconds: { type: "string" },
        warmup: { type: "string" },
        hours: { type: "string" },
        only: { type: "string" },
        json: { type: "string" },
        io: { type: "string" },
        "noise-floor": { type: "boolean" },
      },
    });
    return optionsSchema.parse(values);
  } catch (error) {
    const message = error instanceof z.ZodError ? z.prettifyError(error) : (error as Error).message;
    return refuse(message);
  }
}

function summaryOf(results: readonly Result[]): string {
  const judged = results
    .flatMap((result) => result.figures)
    .filter(({ atMost }) => atMost !== null);
  const met = judged.filter((figure) => figure.verdict === "met");
  return `${met.length} of ${judged.length} bars met`;
}

function refuse(problem: string): never {
  process.stderr.write(`bench: ${problem}\n`);
  process.exit(2);
}

// Through process.exit, so that what was started is also ended.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));
main().catch((error: Error) => {
  process.stderr.write(`bench: ${error.message}\n`);
  process.exit(1);
});

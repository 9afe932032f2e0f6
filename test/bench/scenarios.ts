/**
 * What is measured: one row per load, with the figures that Memward holds itself to. `compare`
 * says whether a bar binds the ratio to the peer or Memward's own value. Loads that differ only
 * in dialect (b50 and g50) are the same requests: binary with SASL here, text at nutcracker.
 */
import type { Counts, Load } from "./generator.ts";

/**
 * Who is compared: two proxies before the same memcacheds, two stores behind unix sockets, the
 * proxy process of a whole `memward up` with nutcracker, Memward's proxy with nobody, or with itself
 * by sessions with a key prefix and without, a cache with two copies of each key with one that has
 * one, a proxy of a thousand caches with one of a single cache, a proxy in the storm of another
 * cache with the same proxy in calm, or a proxy that knows 100,000 credentials with one that knows
 * one.
 */
export type Arena =
  | "proxy"
  | "store"
  | "up"
  | "alone"
  | "prefix"
  | "copies"
  | "storm"
  | "limited"
  | "crowd"
  | "caches";

/** What another cache does meanwhile on the subject's proxy. */
export type Storm = { command: "run" | "logins" | "idle"; load: Load };

export type Measure = {
  metric: keyof Counts;
  unit: string;
  /** Multiplies what the generator counts into `unit`. */
  scale: number;
  compare: "ratio" | "value";
  atMost?: number;
};

export type Scenario = {
  name: string;
  title: string;
  arena: Arena;
  command: "run" | "idle" | "logins";
  load: Load;
  peerLoad: Load;
  /** Memory is measured on servers that have carried no load before. */
  freshServers: boolean;
  storm?: Storm;
  measures: Measure[];
};

const SESSIONS = 50;
const SESSIONS_MANY = 1_000;
const SESSIONS_IDLE = 10_000;
const LOGINS_AT_ONCE = 16;
/** 28,000 client ports per address, and a closed connection holds its port for a second. */
const SOURCES = 8;
const MULTIGET_KEYS = 16;
const VALUE_SIZE = 100;
const VALUE_SIZE_LARGE = 4_096;
/** The goal of 5,000 logins per second and core, as CPU time of one. */
const LOGIN_CPU_US_MAX = 200;
const START_MS_MAX = 3_000;
/** Decimal megabytes; the kernel's "kB" of VmRSS are 1,024 bytes. */
const MB_PER_KB = 1_024 / 1e6;

const single: Load = {
  dialect: "text",
  sessions: SESSIONS,
  sources: 1,
  batch: 1,
  multiget: false,
  setPercent: 0,
  valueSize: VALUE_SIZE,
  rate: 0,
};
const multiget: Load = { ...single, batch: MULTIGET_KEYS, multiget: true };
const pipelined: Load = { ...single, batch: 16, setPercent: 10 };
const mixed: Load = { ...single, setPercent: 10 };
const large: Load = { ...mixed, valueSize: VALUE_SIZE_LARGE };
const many: Load = { ...single, sessions: SESSIONS_MANY };
const fixedRate: Load = { ...mixed, rate: 20_000 };
/** A thousand small applications, each with its own few requests. */
const applications: Load = { ...mixed, sessions: SESSIONS_MANY, sources: SOURCES };
const idle: Load = { ...single, sessions: SESSIONS_IDLE, sources: SOURCES };
const logins: Load = { ...single, sessions: LOGINS_AT_ONCE, sources: SOURCES };

/** A cache that asks little and wants its answers at once. */
const quiet: Load = { ...single, dialect: "binary", sessions: 10, rate: 1_000 };
/** 20,000 logins come within some seconds; none of them waits for another. */
const loginStorm: Load = { ...logins, dialect: "binary", sessions: 256 };
/** Everybody comes back at once, and stays: as many as a process may have open by default. */
const reconnectStorm: Load = { ...idle, dialect: "binary", sessions: 19_500 };
const pipelineStorm: Load = { ...single, dialect: "binary", batch: 64, setPercent: 10 };
const crowdedStorm: Load = { ...pipelineStorm, sessions: SESSIONS_MANY, batch: 16 };

const cpu = (atMost?: number): Measure => ({
  metric: "cpuUs",
  unit: "CPU us/key",
  scale: 1,
  compare: "ratio",
  ...(atMost !== undefined && { atMost }),
});
const stormed = (
  name: string,
  title: string,
  storm: Storm,
  arena: "storm" | "limited" = "storm",
): Scenario => ({
  name,
  title,
  arena,
  command: "run",
  load: quiet,
  peerLoad: quiet,
  freshServers: false,
  storm,
  measures: [p99(), { ...p99(), metric: "p50Us", unit: "p50 us" }],
});

const p99 = (atMost?: number): Measure => ({ ...cpu(atMost), metric: "p99Us", unit: "p99 us" });

const text = (name: string, title: string, load: Load, measures: Measure[]): Scenario => ({
  name,
  title,
  arena: "proxy",
  command: "run",
  load,
  peerLoad: load,
  freshServers: false,
  measures,
});

/** The peer answers the same load in text: nutcracker speaks neither binary nor meta. */
const inDialect = (dialect: Load["dialect"], scenario: Scenario): Scenario => ({
  ...scenario,
  load: { ...scenario.load, dialect },
});

export const SCENARIOS: readonly Scenario[] = [
  text("g50", "single get, 50 sessions", single, [cpu(1.05)]),
  text("g1000", "single get, 1,000 sessions", many, [cpu(1.05)]),
  text("m16", "multi-get of 16", multiget, [cpu(1.05)]),
  text("p16", "16 pipelined, 10 % sets", pipelined, [cpu(0.65)]),
  text("s50", "10 % sets, 100 B", mixed, [cpu(1.05)]),
  text("k50", "10 % sets, 4 KB", large, [cpu(1.05)]),
  text("r20", "10 % sets, fixed 20,000/s", fixedRate, [p99(1), cpu()]),
  inDialect("binary", text("b50", "binary+SASL single get", single, [cpu(1)])),
  inDialect("binary", text("b1000", "binary+SASL, 1,000 sessions", many, [cpu(1)])),
  inDialect("binary", text("bm16", "binary+SASL multi-get of 16", multiget, [cpu(1)])),
  inDialect("binary", text("bk50", "binary+SASL, 10 % sets, 4 KB", large, [cpu(1)])),
  inDialect("meta", text("meta50", "meta single get", single, [cpu()])),
  inDialect("meta", text("mm16", "meta multi-get of 16", multiget, [cpu()])),
  { ...text("e50", "embedded store, single get", single, [cpu(2)]), arena: "store" },
  { ...text("x50", "key prefix, single get", single, [cpu()]), arena: "prefix" },
  { ...text("xm16", "key prefix, multi-get of 16", multiget, [cpu()]), arena: "prefix" },
  { ...text("xk50", "key prefix, 10 % sets, 4 KB", large, [cpu()]), arena: "prefix" },
  {
    ...inDialect("binary", text("xb50", "key prefix, binary single get", single, [cpu()])),
    peerLoad: { ...single, dialect: "binary" },
    arena: "prefix",
  },
  { ...text("c50", "two copies, single get", single, [cpu()]), arena: "copies" },
  { ...text("cm16", "two copies, multi-get of 16", multiget, [cpu()]), arena: "copies" },
  { ...text("cs50", "two copies, 10 % sets, 100 B", mixed, [cpu()]), arena: "copies" },
  {
    ...text("idle", "10,000 idle sessions, logged in", idle, [
      { metric: "rssKb", unit: "RSS MB", scale: MB_PER_KB, compare: "value", atMost: 110 },
    ]),
    arena: "up",
    command: "idle",
    load: { ...idle, dialect: "binary" },
    freshServers: true,
  },
  {
    ...text("logins", "connect, log in, close", logins, [
      { ...cpu(LOGIN_CPU_US_MAX), unit: "CPU us/login", compare: "value" },
      { metric: "perSecond", unit: "logins/s", scale: 1, compare: "value" },
    ]),
    arena: "alone",
    command: "logins",
    load: { ...logins, dialect: "binary" },
  },
  stormed("storm-logins", "quiet cache while another logs in, 256 at once", {
    command: "logins",
    load: loginStorm,
  }),
  stormed("storm-reconnect", "quiet cache while 19,500 sessions of another connect and log in", {
    command: "idle",
    load: reconnectStorm,
  }),
  stormed("storm-pipelined", "quiet cache while another pipelines 64 on 50 sessions", {
    command: "run",
    load: pipelineStorm,
  }),
  stormed("storm-crowd", "quiet cache while another pipelines 16 on 1,000 sessions", {
    command: "run",
    load: crowdedStorm,
  }),
  stormed(
    "limited-pipelined",
    "quiet cache while another wants to pipeline, limited to 10,000 a second",
    { command: "run", load: pipelineStorm },
    "limited",
  ),
  stormed(
    "limited-crowd",
    "the same with 1,000 sessions of the other",
    { command: "run", load: crowdedStorm },
    "limited",
  ),
  {
    ...text("credentials", "login with 100,000 credentials known", logins, [
      { ...cpu(1.1), unit: "CPU us/login" },
      { metric: "rssKb", unit: "RSS MB", scale: MB_PER_KB, compare: "value" },
    ]),
    arena: "crowd",
    command: "logins",
    load: { ...logins, dialect: "binary" },
    peerLoad: { ...logins, dialect: "binary" },
  },
  {
    ...text("caches1000", "1,000 caches beside one, 4,000/s", { ...applications, rate: 4_000 }, [
      cpu(1.15),
      { metric: "rssKb", unit: "RSS MB", scale: MB_PER_KB, compare: "value" },
      p99(),
    ]),
    arena: "caches",
  },
  {
    ...text("caches1000-full", "the same in a closed loop", applications, [cpu(1.15)]),
    arena: "caches",
  },
  {
    ...text("start", "proxy starts with 100,000 credentials", logins, [
      { ...cpu(START_MS_MAX), metric: "startMs", unit: "ms", compare: "value" },
    ]),
    arena: "crowd",
    command: "logins",
    load: { ...logins, dialect: "binary", sessions: 1 },
    peerLoad: { ...logins, dialect: "binary", sessions: 1 },
    freshServers: true,
  },
];

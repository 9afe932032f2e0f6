/**
 * Logs: one JSON line per event on standard error (pino), drawn for people when that is a
 * terminal. Standard output stays free for what a command answers. Lines are written by the event
 * loop's helper threads and bounded: when the reader stalls, lines are dropped, clients are not.
 */
import { createRequire } from "node:module";
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from "pino";

export type { Logger };

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Bytes of log lines that may wait for a slow reader; beyond it lines are dropped. */
const LOG_WAITING_SIZE_MAX = 1024 * 1024;

/** Fields that never reach a log, whoever passes them. */
const SECRET_FIELDS = ["password", "secret", "token", "authorization", "digest"];

export interface LogOptions {
  name: string;
  level?: LogLevel;
  /** Drawn for people; default: whether standard error is a terminal. */
  pretty?: boolean;
  /** Where lines go; default standard error. Tests read it. */
  to?: DestinationStream;
}

export function createLog({ name, level = "info", pretty, to }: LogOptions): Logger {
  const stream = to ?? ((pretty ?? process.stderr.isTTY) ? prettyStream() : jsonStream());
  return pino(
    {
      level,
      base: { name, pid: process.pid },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]),
    },
    stream,
  );
}

function jsonStream(): DestinationStream {
  return destination({ fd: 2, sync: false, maxLength: LOG_WAITING_SIZE_MAX });
}

/** Loaded only here: a service writing JSON never pays for the drawing. */
function prettyStream(): DestinationStream {
  const require = createRequire(import.meta.url);
  const draw = require("pino-pretty") as typeof import("pino-pretty");
  return draw({
    destination: 2,
    sync: true,
    singleLine: true,
    ignore: "pid",
    translateTime: "SYS:HH:MM:ss.l",
  });
}

/**
 * Commands that would reach every client of the servers of an external pool: none of them is sent
 * there. `flush_all` gives the cache other stamps through the cluster state (proxy/flusher.ts), and
 * the session goes on when all proxies use them; `stats` tells what this worker has counted.
 */
import { Command, Result } from "../../core/protocol/command.ts";
import { MEMCACHED_VERSION } from "../../core/protocol/limits.ts";
import type { Request } from "../../core/protocol/request.ts";
import { countedStats } from "../routing/counters.ts";
import { answerBinary, answerProblem, answerText } from "./answers.ts";
import { answerStats, argumentOf } from "./everywhere.ts";
import { WAIT } from "./execute.ts";
import type { Session } from "./session.ts";

const OK = Buffer.from("OK\r\n");

/** A flush under way; the command stays unread until its outcome is known. */
export type Flushing = { outcome: boolean | null };

/** `flush_all` or `stats`; returns the bytes consumed, or WAIT. */
export function executeExternal(session: Session, request: Request, bytes: Buffer): number {
  if (request.command === Command.flush_all) return flush(session, request, bytes);
  const argument = argumentOf(session, request, bytes);
  if (argument === "reset") {
    answerProblem(session, request, "externalStats", Result.refused);
  } else if (argument === "") {
    const { counters } = session.tenant!;
    const figures = new Map([["version", MEMCACHED_VERSION]]);
    for (const [name, value] of countedStats(counters)) figures.set(name, String(value));
    figures.set("curr_connections", String(counters.sessions));
    figures.set("total_connections", String(counters.sessionsTotal));
    answerStats(session, request, figures);
  } else {
    answerProblem(session, request, session.isBinary ? "notFound" : "error", Result.clientError);
  }
  return request.size;
}

function flush(session: Session, request: Request, bytes: Buffer): number {
  if (delayOf(session, request, bytes) !== 0) {
    answerProblem(session, request, "externalDelay", Result.clientError);
    return request.size;
  }
  const { flushing } = session;
  if (flushing === null) {
    begin(session);
    return WAIT;
  }
  if (flushing.outcome === null) return WAIT;
  session.flushing = null;
  if (!flushing.outcome) answerProblem(session, request, "notFlushed", Result.failed);
  else if (session.isBinary) answerBinary(session, request);
  else answerText(session, request, OK);
  return request.size;
}

/** Nothing of the session runs meanwhile: what it reads next must not be from before. */
function begin(session: Session): void {
  const flushing: Flushing = { outcome: null };
  session.flushing = flushing;
  void session.services.flush(session.tenant!.id).then((isFlushed) => {
    flushing.outcome = isFlushed;
    if (session.state === "serving") session.proceed();
  });
}

function delayOf(session: Session, request: Request, bytes: Buffer): number {
  if (session.isBinary) {
    return request.extrasSize === 0 ? 0 : bytes.readUInt32BE(request.extrasAt);
  }
  const hasDelay = request.tokenCount > (request.quiet ? 2 : 1);
  return hasDelay ? Number(bytes.toString("latin1", request.tokenAt[1], request.tokenEnd[1])) : 0;
}

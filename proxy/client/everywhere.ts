/** Commands that go to every shard of the cache: `flush_all` and `stats`. */
import {
  HEADER_SIZE,
  Header,
  MAGIC_REQUEST,
  Opcode,
  writeBinaryReply,
} from "../../core/protocol/binary.ts";
import { Result } from "../../core/protocol/command.ts";
import { MEMCACHED_VERSION } from "../../core/protocol/limits.ts";
import { Status } from "../../core/protocol/problem.ts";
import type { Request } from "../../core/protocol/request.ts";
import { Broadcast, firstError, type ShardAnswer } from "../routing/broadcast.ts";
import type { Dialect } from "../routing/replies.ts";
import { mergeStats, parseStats } from "../routing/stats.ts";
import { mayResetStats } from "../tenant/rights.ts";
import type { Tenant } from "../tenant/tenant.ts";
import { answerProblem } from "./answers.ts";
import { openSlot } from "./execute.ts";
import type { Session } from "./session.ts";

/** `stats` subcommands that say something about a cache; others are the operator's. */
const STATS_ARGUMENTS = new Set(["", "items", "slabs", "sizes", "settings", "reset"]);
const EMPTY = Buffer.alloc(0);
const OK_LINE = Buffer.from("OK\r\n");
const RESET_LINE = Buffer.from("RESET\r\n");

/** What is still needed of a request when its bytes are gone. */
type Asked = { isBinary: boolean; opcode: number; opaque: number; quiet: boolean };

/** `flush_all [delay]`, or FLUSH with 0 or 4 bytes of delay: this cache only. */
export function flushAll(session: Session, request: Request, bytes: Buffer): number {
  const command = session.isBinary ? binaryFlush(request, bytes) : textFlush(request, bytes);
  const asked = remember(session, request);
  const { route } = session.tenant!;
  // Reads that began before it are joined by nobody who comes after.
  route.flights?.clear();
  broadcast(session, request, session.queue.dialect, command, (answers) => {
    route.flights?.clear();
    const error = firstError(answers);
    if (error !== null) return errorReply(asked, error);
    if (asked.quiet) return EMPTY;
    return asked.isBinary ? packet(asked) : OK_LINE;
  });
  return request.size;
}

function textFlush(request: Request, bytes: Buffer): Buffer {
  const hasDelay = request.tokenCount > (request.quiet ? 2 : 1);
  return Buffer.from(`flush_all${hasDelay ? ` ${token(bytes, request, 1)}` : ""}\r\n`);
}

/** The loud form of the client's own packet, with an opaque of ours. */
function binaryFlush(request: Request, bytes: Buffer): Buffer {
  const packet = Buffer.alloc(HEADER_SIZE + request.extrasSize);
  packet[Header.magic] = MAGIC_REQUEST;
  packet[Header.opcode] = Opcode.flush;
  packet[Header.extrasSize] = request.extrasSize;
  packet.writeUInt32BE(request.extrasSize, Header.bodySize);
  bytes.copy(packet, HEADER_SIZE, request.extrasAt, request.extrasAt + request.extrasSize);
  return packet;
}

/** `stats [argument]`: the shards' figures joined, in memcached's names. */
export function stats(session: Session, request: Request, bytes: Buffer): number {
  const argument = argumentOf(session, request, bytes);
  if (!STATS_ARGUMENTS.has(argument)) {
    const problem = session.isBinary ? "notFound" : "error";
    answerProblem(session, request, problem, Result.clientError);
    return request.size;
  }
  if (argument === "reset" && !mayResetStats(session.rights)) {
    answerProblem(session, request, "noReset", Result.refused);
    return request.size;
  }
  const asked = remember(session, request);
  const tenant = session.tenant!;
  const line = argument === "" ? "stats\r\n" : `stats ${argument}\r\n`;
  broadcast(session, request, "text", Buffer.from(line), (answers) => {
    const error = firstError(answers);
    if (error !== null) return errorReply(asked, error);
    if (argument === "reset") return asked.isBinary ? packet(asked) : RESET_LINE;
    const shards = answers.map((answer) => (answer.ok ? parseStats(answer.text) : []));
    const merged = mergeStats(shards);
    if (argument === "") addOwnFigures(merged, tenant);
    return asked.isBinary ? statPackets(asked, merged) : statLines(merged);
  });
  return request.size;
}

/** The word behind `stats`; "" if there is none. */
export function argumentOf(session: Session, request: Request, bytes: Buffer): string {
  if (session.isBinary) {
    return bytes.toString("latin1", request.keyAt, request.keyAt + request.keySize);
  }
  return request.tokenCount > 1 ? token(bytes, request, 1) : "";
}

/** Figures that nobody has to be asked for. */
export function answerStats(
  session: Session,
  request: Request,
  figures: Map<string, string>,
): void {
  const asked = remember(session, request);
  const bytes = asked.isBinary ? statPackets(asked, figures) : statLines(figures);
  session.queue.answer(request.command, Result.ok, bytes, 0, bytes.length);
}

function broadcast(
  session: Session,
  request: Request,
  dialect: Dialect,
  command: Buffer,
  join: (answers: ShardAnswer[]) => Buffer,
): void {
  const { queue, services } = session;
  const slot = openSlot(session, request);
  const together = new Broadcast(queue, slot, join);
  together.send(session.tenant!.route, dialect, request.command, command, services.loop.nowMs);
}

const remember = (session: Session, request: Request): Asked => ({
  isBinary: session.isBinary,
  opcode: request.opcode,
  opaque: request.opaque,
  quiet: request.quiet,
});

const token = (bytes: Buffer, request: Request, index: number): string =>
  bytes.toString("latin1", request.tokenAt[index], request.tokenEnd[index]);

function errorReply(asked: Asked, error: string): Buffer {
  if (!asked.isBinary) return asked.quiet ? EMPTY : Buffer.from(`${error}\r\n`);
  return packet(asked, { status: Status.temporaryFailure, value: Buffer.from(error) });
}

function packet(
  { opcode, opaque }: Asked,
  rest: { status?: number; key?: Uint8Array; value?: Uint8Array } = {},
): Buffer {
  const size = HEADER_SIZE + (rest.key?.length ?? 0) + (rest.value?.length ?? 0);
  const bytes = Buffer.allocUnsafe(size);
  writeBinaryReply(bytes, 0, { opcode, opaque, status: Status.ok, ...rest });
  return bytes;
}

/** One packet for each figure, an empty one at the end. */
function statPackets(asked: Asked, figures: Map<string, string>): Buffer {
  const packets = Array.from(figures, ([name, value]) =>
    packet(asked, { key: Buffer.from(name), value: Buffer.from(value) }),
  );
  return Buffer.concat([...packets, packet(asked)]);
}

function statLines(figures: Map<string, string>): Buffer {
  const lines = Array.from(figures, ([name, value]) => `STAT ${name} ${value}\r\n`);
  return Buffer.from(`${lines.join("")}END\r\n`);
}

/** What only the proxy knows; clients look for `version`. */
function addOwnFigures(figures: Map<string, string>, tenant: Tenant): void {
  figures.set("version", MEMCACHED_VERSION);
  figures.set("curr_connections", String(tenant.counters.sessions));
  figures.set("total_connections", String(tenant.counters.sessionsTotal));
}

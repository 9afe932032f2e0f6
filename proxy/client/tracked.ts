/**
 * Commands that are followed one by one: where keys have two copies, or reads are shared. All others
 * go through execute.ts and retrieval.ts, where nothing is kept of a command but its slot.
 *
 * A change of two copies is sent to the shard that decides only when the second copy has been asked
 * (trackedChange.ts). Until then the session runs no command that could overtake it.
 */
import { SCRATCH_AT } from "../../core/io/arena.ts";
import { Header, loudOpcode } from "../../core/protocol/binary.ts";
import { COMMANDS, Command } from "../../core/protocol/command.ts";
import type { Request } from "../../core/protocol/request.ts";
import { settleFailed } from "../routing/failure.ts";
import { type Effect, keyTokenOf } from "../routing/follow.ts";
import type { CommandSink, Link } from "../routing/link.ts";
import type { KeyPlace, Route, ShardLinks } from "../routing/route.ts";
import { HELD_SIZE_MAX, held, TrackedChange } from "../routing/trackedChange.ts";
import { MissingValue, type ReadWish, TrackedRead } from "../routing/trackedRead.ts";
import { effectOf } from "./effect.ts";
import { openSlot, WAIT } from "./execute.ts";
import type { Session } from "./session.ts";
import { sendPrefixed, stored, takeKey } from "./storedKey.ts";

/** Slots that a tracked command may have open, its client's among them. */
const SLOT_COUNT = 4;

/** Runs the command at `at`, whose key is good; returns the bytes consumed, or WAIT. */
export function executeTracked(
  session: Session,
  request: Request,
  bytes: Buffer,
  at: number,
): number {
  takeKey(session, request, bytes);
  const { route } = session.tenant!;
  const scratch = session.services.loop.arena.bytes;
  const key = Buffer.from(scratch.subarray(SCRATCH_AT, SCRATCH_AT + stored.size));
  const place = route.locate(key, 0, key.length);
  if (mustWait(session, place, 1)) return WAIT;
  const { isBinary } = session;
  const { command } = request;
  if (!COMMANDS[command]!.mutates) {
    const slot = openSlot(session, request);
    const wire = wireOf(session, request, bytes, at, slot);
    if (isBinary) wire.writeUInt32BE(0, Header.opaque);
    const isPlain = command === Command.get || command === Command.mg;
    const wish = { command, hash: place.hash, wire, isBinary, isPart: false };
    read(session, slot, { wish, place, key, isPlain });
    return request.size;
  }
  if (mustWaitForChange(session, route, place)) return WAIT;
  const slot = openSlot(session, request);
  const effect = route.copies === 1 ? NO_EFFECT : effectOf(request, bytes, isBinary);
  const wire = wireOf(session, request, bytes, at, slot);
  if (effect.kind === "store") effect.value = valueIn(wire, request.valueSize, isBinary);
  const { hash } = place;
  const { opaque } = request;
  change(session, slot, place, {
    ...{ command, wire, opaque, isBinary, isPart: false, hash, key, effect },
  });
  return request.size;
}

const NO_EFFECT: Effect = { kind: "erase", always: true };

/** `[at, end)` of `bytes` is a key of a text retrieval, with its prefix. */
export type AskedKey = { bytes: Buffer; at: number; end: number };

/**
 * Asks for keys of a text retrieval one by one; `head` stands before each of them: `get`, or `gat`
 * and its exptime. Whoever called tells the END. False if the session has to wait.
 */
export function retrieveTracked(
  session: Session,
  command: number,
  head: Buffer,
  keys: readonly AskedKey[],
): boolean {
  const { route } = session.tenant!;
  const { mutates } = COMMANDS[command]!;
  const places = keys.map(({ bytes, at, end }) => ({ ...route.locate(bytes, at, end) }));
  for (const place of places) {
    if (mustWait(session, place, keys.length)) return false;
    if (mutates && mustWaitForChange(session, route, place)) return false;
  }
  const prefixSize = session.keyPrefix === null ? 0 : session.keyPrefix.length;
  for (const [index, { bytes, at, end }] of keys.entries()) {
    const place = places[index]!;
    const key = Buffer.from(bytes.subarray(at, end));
    const wire = Buffer.concat([head, BLANK, key, LINE_END]);
    const slot = session.queue.open(command, session.services.loop.nowMs);
    session.services.slots.prefixSize[slot] = prefixSize;
    const { hash } = place;
    const common = { command, hash, wire, isBinary: false, isPart: true };
    if (!mutates) read(session, slot, { wish: common, place, key, isPlain: true });
    else {
      const exptime = Number(head.toString("latin1", head.indexOf(BLANK) + 1));
      const effect: Effect = { kind: "touch", exptime };
      change(session, slot, place, { ...common, opaque: 0, key, effect });
    }
  }
  return true;
}

const BLANK = Buffer.from(" ");
const LINE_END = Buffer.from("\r\n");

/**
 * The old value of a key whose new one is too large is dropped, behind the changes of the key that
 * are under way. Nobody waits for the answer.
 */
export function dropTracked(session: Session, key: Buffer, wire: Buffer): void {
  const { services, isBinary, tenant } = session;
  const { route } = tenant!;
  const begin = (): void => {
    const place = route.locate(key, 0, key.length);
    const { first, hash } = place;
    if (first === null || place.isClosed) return session.changeSent();
    const command = isBinary ? Command.delete : Command.md;
    const common = { command, wire, opaque: 0, isBinary, isPart: false };
    const wished = { ...common, hash, key, effect: NO_EFFECT };
    new TrackedChange(services, route, wished, { ...place, first }).begin(-1, session);
  };
  session.unsentChangeCount++;
  const { hash } = route.locate(key, 0, key.length);
  if (!route.busy.isBusyFor({ linkDrained: begin }, hash)) begin();
}

// ---- reading ------------------------------------------------------------------------------

type Reading = { wish: ReadWish; place: KeyPlace; key: Buffer; isPlain: boolean };

function read(session: Session, slot: number, { wish, place, key, isPlain }: Reading): void {
  const { services, tenant } = session;
  const { route } = tenant!;
  const flights = isPlain ? route.flights : null;
  const joined = flights?.find(wish.hash, wish.wire);
  if (joined?.join(slot) === true) return;
  const isAlone = route.copies === 2 && keyTokenOf(key) === null;
  const one = new TrackedRead(services, wish, {
    first: isAlone && place.isMoved ? null : place.first,
    second: isAlone || !isPlain ? null : place.second,
    hedges: route.hedges,
    asksOnMiss: place.asksOnMiss,
    mayBePlaceholder: route.copies === 2 && place.isMoved,
  });
  one.join(slot);
  one.begin(joined === undefined ? flights : null);
}

const linkOf = (shard: ShardLinks | null, isBinary: boolean): Link | null =>
  shard === null ? null : isBinary ? shard.binary : shard.text;

// ---- changing -----------------------------------------------------------------------------

type Changing = ConstructorParameters<typeof TrackedChange>[2];

function change(session: Session, slot: number, place: KeyPlace, wished: Changing): void {
  const { services, tenant, queue } = session;
  const { first } = place;
  const isLost =
    first === null ||
    place.isClosed ||
    // A key that cannot have a second copy is nowhere else.
    (place.isMoved && tenant!.route.copies === 2 && keyTokenOf(wished.key) === null);
  if (isLost) {
    if (wished.isPart) new MissingValue(queue, slot, "noShard");
    else settleFailed(queue, services.slots, slot, "noShard");
    return;
  }
  session.unsentChangeCount++;
  new TrackedChange(services, tenant!.route, wished, { ...place, first }).begin(slot, session);
}

// ---- waiting ------------------------------------------------------------------------------

/** Whether the command has to stay unread: the session is woken when it can go on. */
function mustWait(session: Session, { first, second }: KeyPlace, count: number): boolean {
  if (isBehindChange(session)) return true;
  const { services, isBinary } = session;
  if (!services.slots.hasRoom(SLOT_COUNT * count) || held.size > HELD_SIZE_MAX) {
    services.retryLater(session);
    return true;
  }
  const isFull = linkOf(first, isBinary)?.isFullFor(session) === true;
  return isFull || second?.text.isFullFor(session) === true;
}

/** A change of this session is still to be sent to where it is decided. */
export function isBehindChange(session: Session): boolean {
  if (session.unsentChangeCount === 0) return false;
  session.waitsForChange = true;
  return true;
}

/** One change of a key at a time, so that none finds its token gone because of our own. */
function mustWaitForChange(session: Session, route: Route, place: KeyPlace): boolean {
  return place.second !== null && route.busy.isBusyFor(session, place.hash);
}

// ---- bytes --------------------------------------------------------------------------------

/** Takes what is meant for a shard, to be kept. */
class Kept implements CommandSink {
  readonly #pieces: Buffer[] = [];

  append(bytes: Buffer, from: number, size: number): void {
    this.#pieces.push(Buffer.from(bytes.subarray(from, from + size)));
  }

  appendCommand(bytes: Buffer, from: number, size: number): void {
    this.append(bytes, from, size);
  }

  get bytes(): Buffer {
    return this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces);
  }
}

/** The command as it goes to a shard: loud, with the stored key. */
function wireOf(
  session: Session,
  request: Request,
  bytes: Buffer,
  at: number,
  slot: number,
): Buffer {
  const kept = new Kept();
  if (session.keyPrefix !== null) {
    sendPrefixed(session, request, bytes, at, slot, kept);
    return kept.bytes;
  }
  if (request.quiet && !session.isBinary) {
    const restAt = request.quietAt + request.quietSize;
    kept.append(bytes, at, request.quietAt - at);
    kept.append(bytes, restAt, at + request.size - restAt);
    return kept.bytes;
  }
  kept.append(bytes, at, request.size);
  if (session.isBinary) kept.bytes[Header.opcode] = loudOpcode(request.opcode);
  return kept.bytes;
}

/** The value at the end of a command that stores. */
function valueIn(wire: Buffer, valueSize: number, isBinary: boolean): Buffer {
  const end = wire.length - (isBinary ? 0 : LINE_END.length);
  return wire.subarray(end - valueSize, end);
}

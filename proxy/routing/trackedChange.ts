/**
 * A mutation that is followed on its own: because its key may be read by several at once
 * (single-flight), or because its key has two copies. The first copy decides, the second gets what
 * became of it:
 *
 *     1 token    second: what stands there now, by its cas; a placeholder where nothing does
 *     2 decide   first:  the client's command, its bytes unchanged; a refusal ends it here
 *     3 follow   second: the new value, only if that token still stands
 *     4 erase    second: where it does not, where nothing can be copied, and for deletes
 *
 * The client hears the first copy's answer when all of that is done, so it may be read anywhere from
 * then on. Why the second copy never has anything older than what was acknowledged: a value of
 * change M gets there only if nothing touched it since before M was decided. A later change N was
 * acknowledged after it had followed there or erased it. Was that before M's token was taken, N was
 * decided before M. Was it later, M's token was gone. And whatever lands late finds its token gone.
 *
 * When an answer is missing the client gets an error, and the second copy is erased in the
 * background, or its shard is fenced. When the places of the key have changed meanwhile, all of them
 * are erased.
 */
import type { Loop } from "../../core/io/loop.ts";
import { HEADER_SIZE } from "../../core/protocol/binary.ts";
import { COMMANDS, Command, Result } from "../../core/protocol/command.ts";
import type { Problem } from "../../core/protocol/problem.ts";
import { settleFailed } from "./failure.ts";
import {
  type Effect,
  flagOf,
  keyTokenOf,
  lastLine,
  noFlags,
  storeLine,
  tokenOf,
  verdictOf,
} from "./follow.ts";
import type { Gather } from "./gather.ts";
import type { Link } from "./link.ts";
import { PLACEHOLDER_FLAGS, PLACEHOLDER_SECONDS } from "./placeholder.ts";
import type { KeyPlace, Route, ShardLinks } from "./route.ts";
import type { Slots } from "./slots.ts";
import { hasWon, type Tracking } from "./trackedRead.ts";

export type Change = {
  command: number;
  /** As it goes to the first copy. */
  wire: Buffer;
  opaque: number;
  isBinary: boolean;
  /** A key of a text multi-get: its END is told by somebody else. */
  isPart: boolean;
  hash: number;
  /** The key as it is stored. */
  key: Buffer;
  effect: Effect;
};

/** Told when the command has gone to the shard that decides: what follows it may go as well. */
export interface ChangeSender {
  changeSent(): void;
}

const Step = { placeholder: 0, token: 1, decide: 2, follow: 3, erase: 4 } as const;
const END_SIZE = "END\r\n".length;

/** Bytes of all changes under way, which are kept until the second copy has them. */
export const HELD_SIZE_MAX = 64 * 1024 * 1024;
export const held = { size: 0 };

export class TrackedChange implements Gather {
  readonly #slots: Slots;
  readonly #loop: Loop;
  readonly #route: Route;
  readonly #change: Change;
  readonly #first: ShardLinks;
  /** Null if there is none, or it cannot have this key. */
  readonly #second: ShardLinks | null;
  readonly #place: Pick<KeyPlace, "first" | "second">;
  /** The client's slot; -1 if nobody waits, or not any more. */
  #slot: number;
  #sender: ChangeSender | null;
  readonly #keyToken: string | null;
  #token = "";
  #hasPlaced = false;
  /** What the first copy said. */
  #answer: Buffer | null = null;
  #valueCount = 0;
  #result: number = Result.failed;

  constructor(
    { slots, loop }: Tracking,
    route: Route,
    change: Change,
    place: KeyPlace & { first: ShardLinks },
  ) {
    this.#slots = slots;
    this.#loop = loop;
    this.#route = route;
    this.#change = change;
    this.#first = place.first;
    this.#place = { first: place.first, second: place.second };
    this.#keyToken = place.second === null ? null : keyTokenOf(change.key);
    this.#second = this.#keyToken === null ? null : place.second;
    this.#slot = -1;
    this.#sender = null;
  }

  /** `slot` is answered when all is done; nobody is if it is -1. */
  begin(slot: number, sender: ChangeSender | null): void {
    this.#slot = slot;
    this.#sender = sender;
    if (slot >= 0) this.#slots.gather[slot] = this;
    held.size += this.#change.wire.length;
    this.#route.changeBegins(this.#change.hash, this.#second !== null);
    const { effect } = this.#change;
    const needsToken = effect.kind !== "erase" && effect.kind !== "recache";
    if (this.#second === null || !needsToken) this.#decide();
    else this.#takeToken();
  }

  // ---- asking -----------------------------------------------------------------------------

  /** Sends `line` to the second copy; why not, if it cannot be. */
  #askSecond(step: number, command: number, line: string | Buffer): Problem | undefined {
    const link = this.#second!.text;
    const problem = this.#refusal(link);
    if (problem !== undefined) return problem;
    this.#expect(link, step, command);
    const bytes = typeof line === "string" ? Buffer.from(line, "latin1") : line;
    link.append(bytes, 0, bytes.length);
    return undefined;
  }

  #refusal(link: Link): Problem | undefined {
    return this.#slots.hasRoom(2) ? link.refusal() : "queueFull";
  }

  /** What must not be done later than is known here is undone by the link, should that come to pass. */
  #expect(link: Link, step: number, command: number): void {
    const slots = this.#slots;
    const slot = slots.open(null, command, this.#loop.nowMs);
    slots.gather[slot] = this;
    slots.part[slot] = step;
    slots.opaque[slot] = step === Step.decide ? this.#change.opaque : 0;
    const { key } = this.#change;
    if (step < Step.decide) link.expect(slot);
    else link.expectMutation(slot, key, 0, key.length);
  }

  #takeToken(): void {
    const { effect } = this.#change;
    const [key, end] = [this.#keyToken!, "\r\n"];
    let problem: Problem | undefined;
    if (effect.kind !== "touch") {
      const flags = `ME F${PLACEHOLDER_FLAGS} T${PLACEHOLDER_SECONDS}`;
      const line = `ms ${noFlags(key)} 0 ${flags}${flagOf(key)}${end}${end}`;
      problem = this.#askSecond(Step.placeholder, Command.ms, line);
    }
    problem ??= this.#askSecond(Step.token, Command.mg, `mg ${key} c${end}`);
    // Nothing was changed yet.
    if (problem !== undefined) this.#refuse(problem);
  }

  #decide(): void {
    const { wire, command } = this.#change;
    const link = this.#decider;
    const problem = this.#refusal(link);
    if (problem !== undefined) {
      this.#removePlaceholder();
      return this.#refuse(problem);
    }
    this.#expect(link, Step.decide, command);
    link.appendCommand(wire, 0, wire.length);
    this.#sent();
  }

  get #decider(): Link {
    return this.#change.isBinary ? this.#first.binary : this.#first.text;
  }

  #sent(): void {
    const sender = this.#sender;
    this.#sender = null;
    sender?.changeSent();
  }

  // ---- what comes back --------------------------------------------------------------------

  take(
    slot: number,
    valueCount: number,
    bytes: Buffer,
    from: number,
    size: number,
    result: number,
  ): void {
    switch (this.#slots.part[slot]) {
      case Step.placeholder:
        this.#hasPlaced = result === Result.ok;
        return;
      case Step.token:
        if (result === Result.serverError) return this.#refuse("brokenReply");
        this.#token = tokenOf(bytes, from, size);
        return this.#decide();
      case Step.decide:
        return this.#decided(valueCount, bytes, from, size, result);
      case Step.follow:
        return this.#followed(bytes, from, size, result);
      default:
        if (result === Result.serverError || result === Result.clientError) {
          return this.#fail("brokenReply");
        }
        return this.#done();
    }
  }

  fail(slot: number, problem: Problem): void {
    switch (this.#slots.part[slot]) {
      case Step.placeholder:
        // The token behind it fails as well.
        return;
      case Step.token:
        return this.#refuse(problem);
      case Step.decide:
        if (this.#decider.wasSent) return this.#fail(problem);
        this.#removePlaceholder();
        return this.#refuse(problem);
      default:
        return this.#fail(problem);
    }
  }

  #decided(valueCount: number, bytes: Buffer, from: number, size: number, result: number): void {
    if (this.#hasMoved()) return this.#eraseEverywhere();
    this.#valueCount = valueCount;
    this.#result = valueCount > 0 ? Result.hit : result;
    if (this.#second === null) return this.#settle(bytes, from, size);
    this.#answer = Buffer.from(bytes.subarray(from, from + size));
    const { effect } = this.#change;
    if (effect.kind === "recache") return hasWon(bytes, from, size) ? this.#erase() : this.#done();
    switch (verdictOf(effect, this.#result)) {
      case "leave":
        this.#removePlaceholder();
        return this.#done();
      case "erase":
        return this.#erase();
      case "follow":
        return this.#follow();
    }
  }

  #follow(): void {
    const line = this.#followLine();
    if (line === null) return this.#erase();
    if (line === "") return this.#done();
    const { kind } = this.#change.effect;
    const command = kind === "store" ? Command.ms : kind === "count" ? Command.ma : Command.mg;
    const problem = this.#askSecond(Step.follow, command, line);
    if (problem !== undefined) this.#fail(problem);
  }

  /** What the second copy is told; null if it has to be erased, "" if there is nothing to tell. */
  #followLine(): Buffer | string | null {
    const { effect } = this.#change;
    const key = this.#keyToken!;
    const token = this.#token;
    if (effect.kind === "touch") {
      if (token === "") return "";
      return effect.exptime < 0 ? null : `mg ${key} T${effect.exptime} c\r\n`;
    }
    if (token === "") return null;
    if (effect.kind === "store") {
      if (effect.exptime < 0 || effect.flags === PLACEHOLDER_FLAGS) return null;
      return storeLine(key, token, effect);
    }
    if (effect.kind !== "count") return null;
    const count = this.#countAnswered();
    if (count === null) return null;
    if (this.#hasPlaced) {
      const { initial } = effect;
      if (initial === null || initial.value !== count) return null;
      const value = Buffer.from(count);
      return storeLine(key, token, { flags: 0, exptime: initial.exptime, value });
    }
    return `ma ${key} C${token} M${effect.isDown ? "D" : "I"} D${effect.delta} v\r\n`;
  }

  #followed(bytes: Buffer, from: number, size: number, result: number): void {
    const { effect } = this.#change;
    let isSame = result === Result.ok;
    if (effect.kind === "touch") {
      // Nothing there, or what was there when the token was taken.
      isSame = result === Result.miss || tokenOf(bytes, from, size) === this.#token;
    } else if (effect.kind === "count" && !this.#hasPlaced) {
      const count = lastLine(bytes.toString("latin1", from, from + size));
      isSame = result === Result.hit && count === this.#countAnswered();
    }
    if (isSame) this.#done();
    else this.#erase();
  }

  /** What the first copy has counted to; null if it did not say. */
  #countAnswered(): string | null {
    const answer = this.#answer!;
    const { isBinary, command } = this.#change;
    if (isBinary) {
      return answer.length < HEADER_SIZE + 8 ? null : String(answer.readBigUInt64BE(HEADER_SIZE));
    }
    const text = answer.toString("latin1");
    if (command === Command.ma) return text.startsWith("VA ") ? lastLine(text) : null;
    return /^\d+/.exec(text)?.[0] ?? null;
  }

  #erase(): void {
    const problem = this.#askSecond(Step.erase, Command.md, `md ${this.#keyToken}\r\n`);
    if (problem !== undefined) this.#fail(problem);
  }

  // ---- the end ----------------------------------------------------------------------------

  /** Nothing was changed, and nothing is asked any more. */
  #refuse(problem: Problem): void {
    this.#over();
    this.#settleFailed(problem);
  }

  /** It may have happened or not. */
  #fail(problem: Problem): void {
    this.#second?.text.invalidate(this.#change.key);
    this.#over();
    this.#settleFailed(problem);
  }

  #done(): void {
    const answer = this.#answer!;
    this.#settle(answer, 0, answer.length);
  }

  #settle(bytes: Buffer, from: number, size: number): void {
    this.#over();
    const slot = this.#slot;
    if (slot < 0) return;
    const slots = this.#slots;
    const { command, isBinary, isPart } = this.#change;
    slots.gather[slot] = null;
    const queue = slots.queue[slot]!;
    if (isBinary || COMMANDS[command]!.shape !== "values") {
      return queue.settle(slot, this.#result, bytes, from, size);
    }
    const sizeToTell = !isPart ? size : this.#valueCount === 0 ? 0 : size - END_SIZE;
    queue.settleValues(slot, this.#valueCount, bytes, from, sizeToTell);
  }

  #settleFailed(problem: Problem): void {
    const slot = this.#slot;
    if (slot < 0) return;
    this.#slots.gather[slot] = null;
    settleFailed(this.#slots.queue[slot]!, this.#slots, slot, problem);
  }

  #over(): void {
    held.size -= this.#change.wire.length;
    this.#route.changeEnds(this.#change.hash, this.#second !== null);
    this.#sent();
  }

  emit(): void {}

  /** The client has gone; what it wanted goes on. */
  abandon(): void {
    this.#slot = -1;
  }

  // ---- cleaning up ------------------------------------------------------------------------

  #hasMoved(): boolean {
    if (this.#route.copies === 1) return false;
    const { key } = this.#change;
    const place = this.#route.locate(key, 0, key.length);
    const isSame = place.first === this.#place.first && place.second === this.#place.second;
    return !isSame || place.isClosed;
  }

  #eraseEverywhere(): void {
    const { key } = this.#change;
    const { first, second } = this.#route.locate(key, 0, key.length);
    for (const shard of new Set([first, second, this.#first, this.#second])) {
      shard?.text.invalidate(key);
    }
    this.#over();
    this.#settleFailed("connectionClosed");
  }

  #removePlaceholder(): void {
    const link = this.#second?.text;
    if (link === undefined || !this.#hasPlaced || this.#token === "") return;
    this.#hasPlaced = false;
    if (this.#refusal(link) !== undefined) return;
    const slot = this.#slots.open(null, Command.md, this.#loop.nowMs);
    link.expect(slot);
    const bytes = Buffer.from(`md ${this.#keyToken} C${this.#token}\r\n`, "latin1");
    link.append(bytes, 0, bytes.length);
  }
}

/**
 * The whole corpus, held against one server: everything side by side except what touches more
 * than its own keys. Two servers given the same corpus are sent the same bytes.
 */
import {
  type Conversation,
  hold,
  isSplittable,
  type Subject,
  sentSize,
  type Transcript,
} from "./conversation.ts";

const SIDE_BY_SIDE = 24;
/** Conversations of more bytes are held one after the other: two dozen megabytes at once test
 *  the machine and not the server. */
const LARGE_SIZE_MIN = 50_000;

export type Held = { whole: Transcript; bytes: Transcript | undefined };

/** Transcripts by conversation; `bytes` is the same sent one byte at a time, where it is short. */
export async function holdAll(
  subject: Subject,
  conversations: readonly Conversation[],
): Promise<Map<Conversation, Held>> {
  const results = new Map<Conversation, Held>();
  const holdOne = async (conversation: Conversation): Promise<void> => {
    const whole = await held(subject, conversation, "whole");
    const bytes = isSplittable(conversation)
      ? await held(subject, conversation, "bytes")
      : undefined;
    results.set(conversation, { whole, bytes });
  };
  const large = conversations.filter((one) => !one.alone && sentSize(one) > LARGE_SIZE_MIN);
  const small = conversations.filter((one) => !one.alone && sentSize(one) <= LARGE_SIZE_MIN);
  const alone = conversations.filter((one) => one.alone);
  await Promise.all([inLanes(small, SIDE_BY_SIDE, holdOne), inLanes(large, 1, holdOne)]);
  await inLanes(alone, 1, holdOne);
  return results;
}

/** A conversation that breaks off is a transcript too; its test shows why. */
async function held(...args: Parameters<typeof hold>): Promise<Transcript> {
  try {
    return await hold(...args);
  } catch (error) {
    return [`<failed: ${String(error)}>`];
  }
}

async function inLanes<T>(
  items: readonly T[],
  laneCount: number,
  run: (item: T) => Promise<void>,
): Promise<void> {
  const rest = items.values();
  const lane = async (): Promise<void> => {
    for (const item of rest) await run(item);
  };
  await Promise.all(Array.from({ length: laneCount }, lane));
}

/**
 * Ids of messages: `<subject>.<seq>.<person>`, with `.rN` when it is sent for the Nth time, so that
 * whatever comes back can be matched, and whoever gets it twice can tell. The subject is an incident
 * as people see it (17, 17@m2), or `d<ms>` for a drill. A room stands where a person would.
 */

export interface MessageId {
  readonly subject: string;
  readonly seq: number;
  readonly person: string;
  /** 1 for the first time. */
  readonly sending: number;
}

export const ROOM = "room";
const PATTERN =
  /^(d?\d{1,16}(?:@[a-z0-9-]{1,63})?)\.(\d{1,9})\.([a-z0-9-]{1,63})(?:\.r(\d{1,4}))?$/;

export function messageId({ subject, seq, person, sending }: MessageId): string {
  const base = `${subject}.${seq}.${person}`;
  return sending > 1 ? `${base}.r${sending}` : base;
}

export function parseMessageId(text: string): MessageId | undefined {
  const match = PATTERN.exec(text);
  if (match === null) return undefined;
  const [, subject = "", seq, person = "", sending = "1"] = match;
  return { subject, seq: Number(seq), person, sending: Number(sending) };
}

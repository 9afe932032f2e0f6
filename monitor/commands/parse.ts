/**
 * What people write, as a verb with its words. Case, a leading `#` and surrounding blanks do not
 * matter; `17 ack` is as good as `ack 17`. Pure; knows no incident.
 */

export const VERBS = [
  "ack",
  "unack",
  "resolve",
  "silence",
  "unsilence",
  "escalate",
  "status",
  "who",
  "note",
  "drill",
  "ok",
  "help",
] as const;
export type Verb = (typeof VERBS)[number];

export interface Command {
  readonly verb: Verb;
  /** Of an incident, if the first word is one. */
  readonly target: { readonly number: number; readonly origin: string } | null;
  /** What follows, with blanks as they were. */
  readonly rest: string;
}

const BODY_LENGTH_MAX = 1_000;
const TARGET = /^#?(\d{1,9})(?:@([a-z0-9-]{1,63}))?[:,.]?$/i;

/** Undefined when it is no command. */
export function parseCommand(body: string): Command | undefined {
  const text = body
    .slice(0, BODY_LENGTH_MAX)
    .replace(/\p{Cc}+/gu, " ")
    .trim();
  const [first = "", afterFirst] = firstWord(text.replace(/^#\s*/, ""));
  const own = verbOf(first);
  if (own !== undefined) return commandOf(own, afterFirst);
  const [second = "", afterSecond] = firstWord(afterFirst);
  const verb = TARGET.test(first) ? verbOf(second) : undefined;
  return verb === undefined ? undefined : commandOf(verb, `${first} ${afterSecond}`);
}

/** An incident as people name it: 17, #17, 17@m2. */
export function parseTarget(word: string): Command["target"] {
  const match = TARGET.exec(word);
  if (match === null) return null;
  return { number: Number(match[1]), origin: match[2]?.toLowerCase() ?? "" };
}

/** The first word and what follows it. */
export function firstWord(text: string): [word: string, rest: string] {
  const match = /^(\S*)\s*(.*)$/s.exec(text.trimStart());
  return [match?.[1] ?? "", match?.[2]?.trimEnd() ?? ""];
}

function commandOf(verb: Verb, words: string): Command {
  const [word, rest] = firstWord(words);
  const target = parseTarget(word);
  return target === null ? { verb, target, rest: words.trim() } : { verb, target, rest };
}

function verbOf(word: string): Verb | undefined {
  const lower = word.toLowerCase().replace(/[!.,:]+$/, "");
  return VERBS.find((verb) => verb === lower);
}

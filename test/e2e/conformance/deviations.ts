/**
 * Where we do better than memcached on purpose, with the reason. Everything that is not in this
 * table must answer as memcached does, to the byte. `change` turns memcached's transcript into
 * ours; `instead` is for conversations that memcached never ends, or ends by closing while more
 * is on its way (what is then read back is a matter of luck), so that it is not asked.
 */
import type { Conversation, Transcript } from "./conversation.ts";

export type Expected = readonly (string | RegExp)[];

export type Deviation = {
  dialect: Conversation["dialect"];
  reason: string;
  names: readonly string[];
} & ({ change(transcript: Transcript): Expected } | { instead: Expected });

const FRAMES_KEPT =
  "memcached answers 0x04 to a packet of the wrong shape and closes, and memjs then hangs for " +
  "good; we answer the same, skip the announced body and go on";
const BLOCK_SKIPPED =
  "memcached reads the data block of a refused storage line as commands, which lets a value " +
  "run commands; the announced bytes are skipped";
const HANGS = "memcached waits for ever for a body that contradicts its own header";

const MISS = 'get status=0001 opaque=00000022 cas=0 value="Not found"';
/** Refused as malformed or as too large, and then closed; or closed at once. */
const REFUSED_AND_CLOSED = /^(\S+ status=000[34] .*)?<closed>$/;

export const DEVIATIONS: readonly Deviation[] = [
  {
    dialect: "binary",
    reason: FRAMES_KEPT,
    names: [
      "get without a key",
      "get with extras",
      "get with a value",
      "set without extras",
      "set with 4 bytes of extras",
      "set with 12 bytes of extras",
      "set without a key",
      "add without extras",
      "replace without extras",
      "append with extras",
      "append without a key",
      "delete without a key",
      "delete with extras",
      "delete with a value",
      "increment without extras",
      "increment with 8 bytes of extras",
      "increment with a value",
      "increment without a key",
      "touch without extras",
      "touch with 8 bytes of extras",
      "touch without a key",
      "gat without extras",
      "noop with a key",
      "noop with a value",
      "version with a key",
      "quit with a key",
      "flush with 8 bytes of extras",
      "flush with a key",
      "key of 251 bytes",
      "set with a key of 251 bytes",
      "getkq with a key of 251 bytes",
      "set with a key of 3,000 bytes",
    ],
    instead: [/^\w+ status=0004 opaque=000000\d\d cas=0 value="Invalid arguments"$/, MISS],
  },
  {
    dialect: "binary",
    reason: "memcached reads the body of an unknown opcode as the next packet",
    names: ["unknown opcode with a body"],
    instead: ['50 status=0081 opaque=00000033 cas=0 value="Unknown command"', MISS],
  },
  {
    dialect: "binary",
    reason: HANGS,
    names: [
      "key size beyond the body",
      "extras size beyond the body",
      "body of 4 GB",
      "body of 2 GB of an unknown opcode",
    ],
    instead: [REFUSED_AND_CLOSED],
  },
  {
    dialect: "binary",
    reason:
      "memcached takes either dialect at any time; a session of a proxy keeps its own, and a " +
      "shard may do as memcached does",
    names: ["text in a binary session", "magic of a response"],
    instead: [/^(\S+ status=000[34] .*)?<closed>$|^(<rest>(END\\r\\n){4})?<open>$/],
  },
  {
    dialect: "binary",
    reason: "memcached has the opcode in its header file only, and then loses the framing",
    names: ["verbosity"],
    instead: [/^verbosity status=00(00|81) opaque=00000033 .*$/, MISS],
  },
  {
    dialect: "binary",
    reason: "as for verbosity with extras: the shape is what is wrong",
    names: ["verbosity without extras"],
    change: () => [/^verbosity status=00(04|81) opaque=00000033 .*$/, MISS],
  },
  {
    dialect: "binary",
    reason: "memcached answers and then reads the value of a gat as the next packet",
    names: ["gat with a value"],
    instead: [/^gat status=000[14] opaque=00000066 .*$/, MISS],
  },
  {
    dialect: "text",
    reason: "memcached takes the length for 0 and reads on in the next command",
    names: ["bytes 4294967296"],
    instead: [
      "STORED\\r\\n",
      "CLIENT_ERROR bad command line format\\r\\n",
      /^VALUE \S+ 0 3\\r\\n\nabc\\r\\n\nEND\\r\\n$/,
    ],
  },
  {
    dialect: "text",
    reason:
      "memcached answers a line above 2,048 bytes if it arrives in one piece and closes if it " +
      "does not; ours is the same however it arrives",
    names: ["line of 3,000 bytes that is no get"],
    instead: [/^CLIENT_ERROR [^\\]+\\r\\n<closed>$/],
  },
  {
    dialect: "text",
    reason: "memcached closes without a word",
    names: ["endless line that is no get"],
    change: () => [/^CLIENT_ERROR [^\\]+\\r\\n<closed>$/],
  },
  {
    dialect: "meta",
    reason: "memcached answers HD although q asks it not to (protocol.txt, quiet of ms and ma)",
    names: ["ma N J quiet"],
    change: ([, ...rest]) => ["", ...rest],
  },
  {
    dialect: "meta",
    reason: BLOCK_SKIPPED,
    names: ["ms of a 251-byte key"],
    change: (transcript) => transcript.map(withoutSecondError),
  },
  {
    dialect: "text",
    reason: BLOCK_SKIPPED,
    names: [
      "set with a key of 251 bytes",
      "flags -1 are no 32-bit number",
      "flags abc are no 32-bit number",
      "flags 1x are no 32-bit number",
      "flags 1.5 are no 32-bit number",
      "exptime abc",
      "cas beyond 64 bits",
      "cas abc",
      "cas -1",
    ],
    change: (transcript) => transcript.map(withoutSecondError),
  },
];

const withoutSecondError = (reply: string): string => reply.replace(/\nERROR\\r\\n$/, "");

const byName = new Map<string, Deviation>(
  DEVIATIONS.flatMap((deviation) =>
    deviation.names.map((name): [string, Deviation] => [`${deviation.dialect} ${name}`, deviation]),
  ),
);

export const deviationOf = ({ dialect, name }: Conversation): Deviation | undefined =>
  byName.get(`${dialect} ${name}`);

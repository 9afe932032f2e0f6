/**
 * Replies as lines that can be compared: read without the product's code, one line per reply part,
 * with everything left out that two healthy servers may answer differently (cas uniques, times).
 */
import { type Packet, printable, printPacket, readPackets } from "../harness/wire.ts";

/** Enough of a value to tell two apart, and its size. */
function shortened(bytes: Buffer): string {
  if (bytes.length <= 200) return printable(bytes);
  let sum = 0;
  for (const byte of bytes) sum = (Math.imul(sum, 31) + byte) >>> 0;
  return `${printable(bytes.subarray(0, 40))}… (${bytes.length} bytes, sum ${sum})`;
}

/**
 * A text reply announces every data block by `VALUE <key> <flags> <bytes> [<cas>]` or
 * `VA <bytes> <flags>*` (protocol.txt); anything else is one line.
 */
export function textTranscript(bytes: Buffer): string[] {
  const transcript: string[] = [];
  let at = 0;
  while (at < bytes.length) {
    const end = bytes.indexOf("\r\n", at);
    if (end < 0) {
      transcript.push(`unfinished: ${shortened(bytes.subarray(at))}`);
      break;
    }
    const line = bytes.toString("latin1", at, end);
    at = end + 2;
    transcript.push(printable(steady(line)));
    const size = blockSize(line);
    if (size < 0) continue;
    transcript.push(`= ${shortened(bytes.subarray(at, at + size))}`);
    if (bytes.toString("latin1", at + size, at + size + 2) !== "\r\n") transcript.push("cut off");
    at += size + 2;
  }
  return transcript;
}

function blockSize(line: string): number {
  const tokens = line.split(" ");
  if (tokens[0] === "VALUE" && (tokens.length === 4 || tokens.length === 5))
    return Number(tokens[3]);
  return tokens[0] === "VA" && tokens.length > 1 ? Number(tokens[1]) : -1;
}

/** Cas uniques, seconds left (t), seconds since the last use (l, la), whether it was fetched (h). */
function steady(line: string): string {
  const tokens = line.split(" ");
  if (tokens[0] === "VALUE" && tokens.length === 5)
    return [...tokens.slice(0, 4), "<cas>"].join(" ");
  if (tokens[0] === "ME") return line.replace(/ (exp|la|cas|fetch)=\S+/g, " $1=#");
  if (!/^(VA|HD|EN|NF|NS|EX)$/.test(tokens[0] ?? "")) return line;
  const from = tokens[0] === "VA" ? 2 : 1;
  const flags = tokens.slice(from).map((flag) => flag.replace(/^([ctlh])\d+$/, "$1#"));
  return [...tokens.slice(0, from), ...flags].join(" ");
}

/** `answers` stand in for the packets of their opaque (see `Piece.answer`). */
export function binaryTranscript(bytes: Buffer, answers: readonly Buffer[] = []): string[] {
  const instead = new Map(
    answers
      .flatMap((answer) => readPackets(answer).packets)
      .map((packet) => [packet.opaque, packet]),
  );
  const { packets, rest } = readPackets(bytes);
  const transcript = packets.map((packet) => printed(instead.get(packet.opaque) ?? packet));
  if (rest.length > 0) transcript.push(`unfinished: ${shortened(rest)}`);
  return transcript;
}

function printed(packet: Packet): string {
  if (packet.value.length <= 200) return printPacket({ ...packet, cas: 0n });
  const value = Buffer.from(shortened(packet.value), "latin1");
  return printPacket({ ...packet, cas: 0n, value });
}

/** Framing of text and meta command lines: each line of the table, whole and cut at every byte. */
import { describe, expect, test } from "vitest";
import { Command } from "../../../core/protocol/command.ts";
import { Request, Verdict } from "../../../core/protocol/request.ts";
import { frameText } from "../../../core/protocol/text.ts";
import { printable } from "../../harness/wire.ts";
import { LINES, type LineRow } from "./lines.ts";
import { bytesOf, look, lookAtEveryCut, type Seen } from "./look.ts";

const named = LINES.map((row): [string, LineRow] => [printable(row.raw).slice(0, 70), row]);

function expected({ raw, command, key = "", value = "", quiet = false, problem }: LineRow): Seen {
  const size = bytesOf(raw).length;
  if (problem !== undefined) return { verdict: "refused", command, problem, size, quiet };
  return { verdict: "framed", command, size, quiet, key, value };
}

describe("a line is framed as what it is, and never before it is whole", () => {
  test.each(named)("%s", (_, row) => {
    const raw = bytesOf(row.raw);
    const whole = look("text", raw);
    expect(whole).toEqual(expected(row));
    lookAtEveryCut("text", raw, whole);
  });
});

test("a line is framed alike whatever was framed before it", () => {
  const request = new Request();
  for (const [, row] of named.toReversed()) {
    expect(look("text", bytesOf(row.raw), row.raw.length, request)).toEqual(expected(row));
  }
});

test("a pipeline is the sum of its commands", () => {
  const rows = LINES.filter(({ problem }) => problem !== "lineTooLong");
  const pipeline = bytesOf(rows.map(({ raw }) => raw).join(""));
  const request = new Request();
  let at = 0;
  for (const row of rows) {
    frameText(request, pipeline, at, pipeline.length);
    expect(request.size, printable(row.raw)).toBe(row.raw.length);
    at += request.size;
  }
  expect(at).toBe(pipeline.length);
});

describe("what is left out of a quiet line", () => {
  const rest = (raw: string): string => {
    const request = new Request();
    const bytes = bytesOf(raw);
    expect(frameText(request, bytes, 0, bytes.length)).toBe(Verdict.framed);
    expect(request.quiet).toBe(true);
    const behind = request.quietAt + request.quietSize;
    return raw.slice(0, request.quietAt) + raw.slice(behind);
  };

  test.each([
    ["set key 0 0 1 noreply\r\na\r\n", "set key 0 0 1\r\na\r\n"],
    ["set noreply 0 0 1   noreply  \na\r\n", "set noreply 0 0 1    \na\r\n"],
    ["cas key 0 0 7 1 noreply\r\nnoreply\r\n", "cas key 0 0 7 1\r\nnoreply\r\n"],
    ["delete key noreply\r\n", "delete key\r\n"],
    ["incr key 1 noreply\r\n", "incr key 1\r\n"],
    ["mg key q v\r\n", "mg key v\r\n"],
    ["mg q q\r\n", "mg q\r\n"],
    ["mg key v qabc\r\n", "mg key v\r\n"],
    ["ms q 1 q\r\nq\r\n", "ms q 1\r\nq\r\n"],
  ])("%j leaves %j", (raw, left) => {
    expect(rest(raw)).toBe(left);
  });
});

describe("a long line that comes in pieces", () => {
  /** Looks at a line byte after byte; `spoil` changes what was already looked at. */
  function framedAt(line: string, spoil: (bytes: Buffer, size: number) => void): number {
    const bytes = bytesOf(line);
    const request = new Request();
    for (let size = 1; size <= bytes.length; size++) {
      const verdict = frameText(request, bytes, 0, size);
      if (verdict !== Verdict.incomplete) return size;
      expect(request.scannedSize).toBe(size);
      spoil(bytes, size);
    }
    return -1;
  }

  test("is looked at once, not once per piece", () => {
    const line = `get ${"k ".repeat(500)}\r\n`;
    // A line end put where the framer has been already would end the line if it looked again.
    const size = framedAt(line, (bytes, seen) => {
      if (seen > 10) bytes[5] = 0x0a;
    });
    expect(size).toBe(line.length);
  });

  test("is begun again by a request whose scannedSize is 0", () => {
    const request = new Request();
    const half = bytesOf("get half of a line");
    expect(frameText(request, half, 0, half.length)).toBe(Verdict.incomplete);
    request.scannedSize = 0;
    const other = bytesOf("mn\r\n");
    expect(frameText(request, other, 0, other.length)).toBe(Verdict.framed);
    expect(request.command).toBe(Command.mn);
  });

  test("leaves nothing behind when it is whole or refused", () => {
    for (const line of ["get key\r\n", "no such command\r\n", `x${"y".repeat(5_000)}`]) {
      const request = new Request();
      const bytes = bytesOf(line);
      frameText(request, bytes, 0, 3);
      frameText(request, bytes, 0, bytes.length);
      expect(request.scannedSize, line.slice(0, 20)).toBe(0);
    }
  });
});

test("keys of a retrieval reach from the first to the end of the line", () => {
  const request = new Request();
  const bytes = bytesOf("junk gat 5 a bb  ccc \r\nget x\r\n");
  frameText(request, bytes, 5, bytes.length);
  expect(bytes.toString("latin1", request.keyAt, request.lineStop)).toBe("a bb  ccc ");
  expect(bytes.toString("latin1", request.lineEnd)).toBe("get x\r\n");
});

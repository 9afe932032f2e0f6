/** The view of a proxy as it is read: whatever is no view of it is told, and nothing is kept of it. */
import { expect, test } from "vitest";
import { VIEW_LINE_SIZE_MAX } from "../../../core/cluster/proxyView.ts";
import { LineReader, viewOf } from "../../../monitor/observe/stream.ts";

const VIEW = { proxy: "p1", atMs: 1, isStarved: false, silentWorkers: 0, caches: [] };

test("lines come in any pieces", () => {
  const lines: string[] = [];
  const reader = new LineReader((line) => void lines.push(line));
  for (const letter of "one\ntwo\nthr") reader.add(letter);
  expect(lines).toEqual(["one", "two"]);
  reader.add("ee\nfour\n");
  expect(lines).toEqual(["one", "two", "three", "four"]);
});

test("a line without an end is given up", () => {
  const reader = new LineReader(() => undefined);
  const piece = "x".repeat(1 << 20);
  let problem: string | undefined;
  for (let size = 0; size <= VIEW_LINE_SIZE_MAX && problem === undefined; size += piece.length) {
    problem = reader.add(piece);
  }
  expect(problem).toBe("a line without an end");
});

test("only a view of that proxy is one", () => {
  expect(viewOf(JSON.stringify(VIEW), "p1")).toEqual(VIEW);
  expect(viewOf(JSON.stringify(VIEW), "p2")).toBe("the view of p1");
  expect(viewOf("{", "p1")).toBe("not JSON");
  expect(viewOf("null", "p1")).toBe("not a view");
  expect(viewOf(JSON.stringify({ ...VIEW, caches: [{ id: 1 }] }), "p1")).toBe("not a view");
});

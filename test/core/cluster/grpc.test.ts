/** Calls to a server that keeps to gRPC, and to servers that do not. */
import { createServer, type Http2Server, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { CODE, GrpcConnection, GrpcFailure } from "../../../core/cluster/grpc.ts";
import { Gate } from "../../harness/gate.ts";
import { freePort } from "../../harness/ports.ts";

type Serve = (stream: ServerHttp2Stream, asked: Buffer) => void;

const servers: Http2Server[] = [];
const connections: GrpcConnection[] = [];
afterEach(() => {
  for (const connection of connections.splice(0)) connection.close();
  for (const server of servers.splice(0)) server.close();
});

const HEADERS = { ":status": 200, "content-type": "application/grpc" };
const framed = (text: string): Buffer => {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(text.length, 1);
  return Buffer.concat([head, Buffer.from(text)]);
};

/** A server that calls `serve` once what was asked is complete. */
async function serving(serve: Serve): Promise<string> {
  const server = createServer();
  servers.push(server);
  server.on("session", (session) => session.on("error", () => {}));
  server.on("stream", (stream: ServerHttp2Stream) => {
    const parts: Buffer[] = [];
    stream.on("error", () => {});
    stream.on("data", (part: Buffer) => parts.push(part));
    stream.on("end", () => serve(stream, Buffer.concat(parts)));
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Answers, then says how it went. */
const answering =
  (frames: readonly Buffer[], trailers: Record<string, string>): Serve =>
  (stream) => {
    stream.respond(HEADERS, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers(trailers));
    for (const frame of frames) stream.write(frame);
    stream.end();
  };

type Heard = { messages: string[]; failure: GrpcFailure | null };

/** One call with one message, to its end. */
function call(
  endpoint: string,
  options: { durationMsMax?: number; cancelAtOnce?: boolean } = {},
  pings?: { intervalMs: number; answerMsMax: number },
): Promise<Heard> {
  const connection = new GrpcConnection(endpoint, undefined, pings);
  connections.push(connection);
  return new Promise((resolve) => {
    const messages: string[] = [];
    const { durationMsMax } = options;
    const one = connection.open(
      { path: "/a.Service/Method", metadata: { token: "t" }, durationMsMax },
      {
        heard: (message) => messages.push(message.toString()),
        ended: (failure) => resolve({ messages, failure }),
      },
    );
    one.write(Buffer.from("question"));
    one.finish();
    if (options.cancelAtOnce === true) one.cancel();
  });
}

const WELL = { "grpc-status": "0" };

describe("a server that keeps to gRPC", () => {
  test("is asked with path, metadata and one framed message", async () => {
    let asked: Buffer = Buffer.alloc(0);
    const endpoint = await serving((stream, bytes) => {
      asked = bytes;
      answering([framed("answer")], WELL)(stream, bytes);
    });
    const server = servers.at(-1)!;
    const headers = new Promise<Record<string, unknown>>((resolve) => {
      server.on("stream", (_stream, given) => resolve(given));
    });
    expect(await call(endpoint, { durationMsMax: 5_000 })).toEqual({
      messages: ["answer"],
      failure: null,
    });
    expect(await headers).toMatchObject({
      ":method": "POST",
      ":path": "/a.Service/Method",
      "content-type": "application/grpc",
      te: "trailers",
      token: "t",
      "grpc-timeout": "5000m",
    });
    expect(asked).toEqual(framed("question"));
  });

  test("may cut its messages anywhere, or send several at once", async () => {
    const all = Buffer.concat([framed("one"), framed(""), framed("x".repeat(100_000))]);
    for (const at of [1, 4, 5, 7, 8, 13, 60_000]) {
      const parts = [all.subarray(0, at), all.subarray(at)];
      const endpoint = await serving((stream) => {
        stream.respond(HEADERS, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers(WELL));
        stream.write(parts[0]);
        setTimeout(() => stream.end(parts[1]), 5);
      });
      const { messages, failure } = await call(endpoint);
      expect(
        messages.map((text) => text.length),
        `cut at ${at}`,
      ).toEqual([3, 0, 100_000]);
      expect(failure).toBeNull();
    }
  });

  test("says why not, with or without messages before", async () => {
    const trailers = { "grpc-status": "5", "grpc-message": "lease %E2%80%9Cx%E2%80%9D not found" };
    const late = await call(await serving(answering([framed("a")], trailers)));
    expect(late).toMatchObject({
      messages: ["a"],
      failure: { code: CODE.notFound, message: "lease “x” not found", isUnsent: false },
    });
    const only = await serving((stream) =>
      stream.respond({ ...HEADERS, ...trailers }, { endStream: true }),
    );
    expect((await call(only)).failure).toMatchObject({ code: CODE.notFound });
    const odd = await serving(answering([], { "grpc-status": "9", "grpc-message": "%zz" }));
    expect((await call(odd)).failure).toMatchObject({ code: 9, message: "%zz" });
  });
});

describe("a call ends once", () => {
  const failures: [string, Serve, object][] = [
    [
      "without a status",
      (stream) => {
        stream.respond(HEADERS);
        stream.end(framed("a"));
      },
      { code: CODE.unavailable },
    ],
    [
      "with another HTTP status",
      (stream) => {
        stream.respond({ ":status": 503 });
        stream.end("busy");
      },
      { code: CODE.unavailable, message: "answered with HTTP 503" },
    ],
    ["refused", (stream) => stream.close(7), { code: CODE.unavailable, isUnsent: true }],
    ["reset", (stream) => stream.close(2), { code: CODE.unavailable, isUnsent: false }],
    [
      "with the connection",
      (stream) => stream.session?.destroy(),
      { code: CODE.unavailable, isUnsent: false },
    ],
    [
      "with a message that is compressed",
      answering([Buffer.from([1, 0, 0, 0, 1, 65])], WELL),
      { code: CODE.resourceExhausted },
    ],
    [
      "with a message that is too large",
      answering([Buffer.from([0, 0x40, 0, 0, 0, 65])], WELL),
      { code: CODE.resourceExhausted, message: expect.stringMatching(/larger/) },
    ],
  ];
  test.each(failures)("%s", async (_, serve, failure) => {
    expect((await call(await serving(serve))).failure).toMatchObject(failure);
  });

  test("when its time is over", async () => {
    const { failure } = await call(await serving(() => {}), { durationMsMax: 50 });
    expect(failure).toMatchObject({ code: CODE.deadlineExceeded, message: "no answer" });
  });

  test("when it is cancelled, before it was sent as well", async () => {
    const { failure } = await call(await serving(() => {}), { cancelAtOnce: true });
    expect(failure).toMatchObject({ code: CODE.cancelled });
  });

  test("when nobody listens: surely unsent", async () => {
    const { failure } = await call(`127.0.0.1:${await freePort()}`);
    expect(failure).toMatchObject({ code: CODE.unavailable, isUnsent: true });
    expect(failure?.message).toMatch(/ECONNREFUSED/);
  });

  test("when the server does not answer pings", async () => {
    const gate = await Gate.open(await serving((stream) => stream.respond(HEADERS)));
    const endpoint = gate.address;
    setTimeout(() => gate.stick(), 100);
    const { failure } = await call(
      endpoint,
      { durationMsMax: 5_000 },
      {
        intervalMs: 150,
        answerMsMax: 100,
      },
    );
    expect(failure).toMatchObject({ code: CODE.unavailable, message: "no answer to a ping" });
    await gate.shut();
  });

  test("and calls on a connection that was closed end, too", async () => {
    const connection = new GrpcConnection(await serving(() => {}));
    connection.close();
    const failure = await new Promise((resolve) => {
      connection.open({ path: "/a" }, { heard: () => {}, ended: resolve });
    });
    expect(failure).toBeInstanceOf(GrpcFailure);
    expect(failure).toMatchObject({ code: CODE.unavailable, isUnsent: true });
  });
});

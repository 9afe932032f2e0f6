/** What becomes of calls when the server at the other end does as servers do. */
import { createServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { EtcdClient, EtcdFailure } from "../../../core/cluster/etcd-client.ts";
import { METHODS } from "../../../core/cluster/etcd-messages.ts";

const closings: (() => void)[] = [];
afterEach(() => {
  for (const close of closings.splice(0)) close();
});

/** Answers every call with `answer`, framed as it is, and remembers its connections. */
async function serving(answer: Buffer) {
  const sessions: ServerHttp2Session[] = [];
  const server = createServer();
  server.on("session", (session) => {
    session.on("error", () => {});
    sessions.push(session);
  });
  server.on("stream", (stream: ServerHttp2Stream, headers) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 200 }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    const head = Buffer.alloc(5);
    head.writeUInt32BE(answer.length, 1);
    stream.write(Buffer.concat([head, answer]));
    if (!String(headers[":path"]).includes("Watch")) stream.end();
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const endpoints = [`127.0.0.1:${(server.address() as AddressInfo).port}`];
  const client = new EtcdClient({ endpoints });
  closings.push(() => {
    client.close();
    server.close();
    for (const session of sessions) session.destroy();
  });
  return { client, sessions };
}

test("a connection that says goodbye is left: what comes next goes over another", async () => {
  const { client, sessions } = await serving(Buffer.alloc(0));
  await client.read(METHODS.range, { key: Buffer.from("a") });
  const watch = Promise.withResolvers<EtcdFailure>();
  await new Promise<void>((heard) => {
    void client.stream(METHODS.watch, { heard: () => heard(), ended: watch.resolve });
  });
  // The watch keeps the old connection open: it is about to end, and takes nothing new.
  sessions[0]?.goaway();
  const ended = Promise.withResolvers<EtcdFailure>();
  // Until the goodbye has come streams may still begin.
  let isOver = false;
  while (!isOver) {
    await client.stream(METHODS.watch, {
      heard: () => {},
      ended: (failure) => {
        isOver = true;
        ended.resolve(failure);
      },
    });
    await new Promise((done) => setTimeout(done, 20));
  }
  expect(await ended.promise).toBeInstanceOf(EtcdFailure);
  // Who finds that out gives the connection up for all.
  expect(await watch.promise).toBeInstanceOf(EtcdFailure);
  expect((await client.read(METHODS.range, { key: Buffer.from("a") })).kvs).toEqual([]);
  expect(sessions.length).toBeGreaterThan(1);
});

test("an answer that is no message is a failure, of a call and of a stream", async () => {
  const { client } = await serving(Buffer.from("0a7f", "hex"));
  await expect(client.read(METHODS.range, { key: Buffer.from("a") })).rejects.toMatchObject({
    name: "StateUnavailable",
    message: expect.stringMatching(/middle of a field/),
  });
  const ended = Promise.withResolvers<EtcdFailure>();
  await client.stream(METHODS.watch, {
    heard: () => ended.reject(new Error("heard")),
    ended: ended.resolve,
  });
  expect((await ended.promise).message).toMatch(/middle of a field/);
}, 20_000);

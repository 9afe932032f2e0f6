/**
 * gRPC over HTTP/2, as a client, as much of it as etcd speaks
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). One connection, calls with one
 * or many messages each way. A message on the wire:
 *
 *     compressed u8 (we ask for none: 0) | length u32 | bytes
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import { every, type Timer } from "../runtime/clock.ts";

/** Status codes (https://grpc.io/docs/guides/status-codes/). */
export const CODE = {
  ok: 0,
  cancelled: 1,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  outOfRange: 11,
  unavailable: 14,
  unauthenticated: 16,
} as const;

/** A server hangs up on who pings more often than it wants; etcd wants no more than one in 5 s. */
const PINGS = { intervalMs: 10_000, answerMsMax: 3_000 };
/** What may be under way to us unread; a page of records fits. */
const WINDOW_SIZE = 1024 * 1024;
/** In MB. Node refuses calls beyond that; what bounds them is their number and MESSAGE_SIZE_MAX. */
const SESSION_MEMORY_MAX = 256;
const MESSAGE_SIZE_MAX = 64 * 1024 * 1024;
const HEAD_SIZE = 5;

/** PEM, as read from files. `ca` is who signed the server's certificate; the system's list without. */
export interface GrpcTls {
  readonly ca?: Buffer | undefined;
  readonly certificate?: Buffer | undefined;
  readonly key?: Buffer | undefined;
  /** The name in the server's certificate, where the endpoint is an address. */
  readonly serverName?: string | undefined;
}

/** Why a call ended without what was asked for. */
export class GrpcFailure extends Error {
  override readonly name = "GrpcFailure";
  /** One of CODE, or another of the server's. */
  readonly code: number;
  /** The server has surely not seen the call. */
  readonly isUnsent: boolean;

  constructor(
    code: number,
    message: string,
    { isUnsent = false, cause = undefined as unknown } = {},
  ) {
    super(message, { cause });
    this.code = code;
    this.isUnsent = isUnsent;
  }
}

export interface CallOptions {
  /** Like `/etcdserverpb.KV/Range`. */
  readonly path: string;
  /** Names in lower case. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** How long it may take; for ever without. */
  readonly durationMsMax?: number | undefined;
}

export interface CallEvents {
  /** The bytes of a message, ours to keep. */
  heard(message: Buffer): void;
  /** Once, the last of all; null when the server says that all went well. */
  ended(failure: GrpcFailure | null): void;
}

export interface Call {
  write(message: Buffer): void;
  /** Nothing more will be written. */
  finish(): void;
  cancel(): void;
}

export class GrpcConnection {
  readonly #session: ClientHttp2Session;
  readonly #pings: Timer;
  #isConnected = false;
  /** What ended the connection. */
  #error: Error | null = null;
  #callCount = 0;

  /** Connects in the background; calls wait for that. `endpoint` is `host:port`. */
  constructor(endpoint: string, tls?: GrpcTls, pings: typeof PINGS = PINGS) {
    const { ca, certificate: cert, key, serverName: servername } = tls ?? {};
    const authority = `${tls === undefined ? "http" : "https"}://${endpoint}`;
    this.#session = connect(authority, {
      settings: { enablePush: false, initialWindowSize: WINDOW_SIZE },
      maxSessionMemory: SESSION_MEMORY_MAX,
      ...(ca && { ca }),
      ...(cert && { cert }),
      ...(key && { key }),
      ...(servername && { servername }),
    });
    this.#session.once("connect", () => {
      this.#isConnected = true;
      if (!this.#session.destroyed) this.#session.setLocalWindowSize(WINDOW_SIZE);
    });
    this.#session.on("error", (error) => {
      this.#error ??= error;
    });
    this.#session.once("close", () => this.#pings.stop());
    this.#pings = every(pings.intervalMs, () => this.#ping(pings.answerMsMax));
  }

  open({ path, metadata, durationMsMax }: CallOptions, { heard, ended }: CallEvents): Call {
    /** Why we have given it up, and why the stream broke. */
    let givenUp: GrpcFailure | undefined;
    let error: Error | undefined;
    let status: Readonly<Record<string, unknown>> = {};
    const stream = this.#request(path, metadata, durationMsMax);
    if (stream instanceof GrpcFailure) {
      queueMicrotask(() => ended(stream));
      return { write() {}, finish() {}, cancel() {} };
    }
    const fail = (reason: GrpcFailure): void => {
      givenUp ??= reason;
      stream.close(constants.NGHTTP2_CANCEL);
    };
    const timer =
      durationMsMax === undefined
        ? undefined
        : setTimeout(() => {
            fail(new GrpcFailure(CODE.deadlineExceeded, "no answer"));
          }, durationMsMax).unref();
    const frames = new Frames(heard, fail);
    this.#callCount++;
    stream.on("response", (headers) => {
      if (headers[":status"] === constants.HTTP_STATUS_OK) status = headers;
      else fail(new GrpcFailure(CODE.unavailable, `answered with HTTP ${headers[":status"]}`));
    });
    stream.on("trailers", (trailers) => {
      status = trailers;
    });
    stream.on("data", (bytes: Buffer) => {
      if (givenUp === undefined) frames.take(bytes);
    });
    stream.on("error", (reason) => {
      error = reason;
    });
    stream.on("close", () => {
      clearTimeout(timer);
      this.#callCount--;
      const told = givenUp ?? statusOf(status);
      ended(told === undefined ? this.#broken(error, stream) : told);
    });
    return {
      write: (message) => {
        if (stream.writable) stream.write(framed(message));
      },
      finish: () => stream.end(),
      cancel: () => fail(new GrpcFailure(CODE.cancelled, "cancelled")),
    };
  }

  /** Calls that are open end as `unavailable`. */
  close(): void {
    this.#pings.stop();
    this.#error ??= new Error("the connection was closed");
    this.#session.destroy();
  }

  #request(
    path: string,
    metadata: CallOptions["metadata"],
    durationMsMax: number | undefined,
  ): ClientHttp2Stream | GrpcFailure {
    try {
      return this.#session.request({
        ":method": "POST",
        ":path": path,
        "content-type": "application/grpc",
        te: "trailers",
        ...(durationMsMax !== undefined && { "grpc-timeout": `${Math.ceil(durationMsMax)}m` }),
        ...metadata,
      });
    } catch (error) {
      // It has ended, or is about to.
      const cause = this.#error ?? (error as Error);
      return new GrpcFailure(CODE.unavailable, cause.message, { cause, isUnsent: true });
    }
  }

  /** A stream that ended without a status of the server. */
  #broken(error: Error | undefined, stream: ClientHttp2Stream): GrpcFailure {
    const cause = this.#error ?? error ?? new Error("the connection ended");
    const isRefused = stream.rstCode === constants.NGHTTP2_REFUSED_STREAM;
    // It gets a number when it is sent.
    const isUnsent = isRefused || stream.id === undefined;
    return new GrpcFailure(CODE.unavailable, cause.message, { cause, isUnsent });
  }

  /** Finds out about a server that has gone without a word, while somebody waits for it. */
  #ping(answerMsMax: number): void {
    if (this.#callCount === 0 || !this.#isConnected || this.#session.destroyed) return;
    const timer = setTimeout(() => {
      this.#error ??= new Error("no answer to a ping");
      this.#session.destroy();
    }, answerMsMax).unref();
    this.#session.ping(() => clearTimeout(timer));
  }
}

/** Cuts what arrives into messages. */
class Frames {
  readonly #heard: (message: Buffer) => void;
  readonly #fail: (failure: GrpcFailure) => void;
  #parts: Buffer[] = [];
  #size = 0;
  /** What #parts has to hold before there is something to do. */
  #wanted = HEAD_SIZE;

  constructor(heard: (message: Buffer) => void, fail: (failure: GrpcFailure) => void) {
    this.#heard = heard;
    this.#fail = fail;
  }

  take(bytes: Buffer): void {
    this.#parts.push(bytes);
    this.#size += bytes.length;
    if (this.#size < this.#wanted) return;
    let rest = this.#parts.length === 1 ? bytes : Buffer.concat(this.#parts);
    this.#wanted = HEAD_SIZE;
    while (rest.length >= HEAD_SIZE) {
      const size = rest.readUInt32BE(1);
      const problem = problemOf(rest[0], size);
      if (problem !== null) return this.#fail(new GrpcFailure(CODE.resourceExhausted, problem));
      if (rest.length < HEAD_SIZE + size) {
        this.#wanted = HEAD_SIZE + size;
        break;
      }
      this.#heard(rest.subarray(HEAD_SIZE, HEAD_SIZE + size));
      rest = rest.subarray(HEAD_SIZE + size);
    }
    this.#parts = rest.length === 0 ? [] : [rest];
    this.#size = rest.length;
  }
}

function problemOf(compressed: number | undefined, size: number): string | null {
  if (compressed !== 0) return "received a message that is compressed";
  if (size > MESSAGE_SIZE_MAX) return `received message larger than ${MESSAGE_SIZE_MAX} bytes`;
  return null;
}

function framed(message: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(HEAD_SIZE + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  message.copy(frame, HEAD_SIZE);
  return frame;
}

/** What the server says; null when all went well, undefined when it has said nothing. */
function statusOf(headers: Readonly<Record<string, unknown>>): GrpcFailure | null | undefined {
  const code = headers["grpc-status"];
  if (code === undefined) return undefined;
  if (Number(code) === CODE.ok) return null;
  return new GrpcFailure(
    Number(code),
    unescaped(String(headers["grpc-message"] ?? "no reason given")),
  );
}

/** Bytes that are not printable ASCII come as %XX. */
function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * Conversations with an etcd cluster: one endpoint at a time, the next one when it fails, and an
 * end to every wait.
 */
import { clock, sleep } from "../runtime/clock.ts";
import { decode, encode, METHODS, type Method } from "./etcd-messages.ts";
import { type Call, CODE, GrpcConnection, GrpcFailure, type GrpcTls } from "./grpc.ts";
import { STATE_PATIENCE_MS, StateUnavailable } from "./state.ts";

/** What can be asked again is not waited for longer on one endpoint. */
const ATTEMPT_MS_MAX = 2_000;
const RETRY_DELAY_MS = 100;

export interface EtcdLogin {
  readonly username: string;
  readonly password: string;
}

export interface EtcdClientOptions {
  /** `host:port` of each member. */
  readonly endpoints: readonly string[];
  readonly tls?: GrpcTls | undefined;
  readonly login?: EtcdLogin | undefined;
}

/** Asking again would be answered the same. */
const FINAL_CODES: ReadonlySet<number> = new Set([
  CODE.invalidArgument,
  CODE.notFound,
  CODE.alreadyExists,
  CODE.permissionDenied,
  CODE.failedPrecondition,
  CODE.outOfRange,
]);

/** An answer of etcd, or of the connection to it, that is no reply. */
export class EtcdFailure extends Error {
  override readonly name = "EtcdFailure";
  readonly code: number;
  /** etcd has surely not seen the request. */
  readonly #isUnseen: boolean;

  constructor(error: Error) {
    super(error.message, { cause: error });
    this.code = error instanceof GrpcFailure ? error.code : CODE.unavailable;
    this.#isUnseen = error instanceof GrpcFailure && error.isUnsent;
  }

  get isFinal(): boolean {
    return (FINAL_CODES.has(this.code) && !this.isLoginStale) || this.isTooLarge;
  }

  /** The token is too old, or users were changed since. Nothing was done; a new one will do. */
  get isLoginStale(): boolean {
    return this.code === CODE.unauthenticated || this.message.includes("auth store is old");
  }

  get isCompacted(): boolean {
    return this.code === CODE.outOfRange && this.message.includes("compacted");
  }

  get isLeaseGone(): boolean {
    return this.code === CODE.notFound && this.message.includes("lease");
  }

  get isTooLarge(): boolean {
    return /request is too large|received message larger/.test(this.message);
  }

  /** Nothing was done, so even a write may be tried elsewhere. */
  get isUnsent(): boolean {
    return this.#isUnseen || this.isLoginStale;
  }
}

/** The connection to one endpoint, logged in. Its promises reject with EtcdFailure. */
class Connection {
  readonly #grpc: GrpcConnection;
  readonly #token: Promise<string | undefined>;

  constructor(endpoint: string, { tls, login }: EtcdClientOptions) {
    this.#grpc = new GrpcConnection(endpoint, tls);
    this.#token = login === undefined ? Promise.resolve(undefined) : this.#logIn(login);
    this.#token.catch(() => {}); // Told to every request that waits for it.
  }

  async ask<Q, R>(method: Method<Q, R>, request: Partial<Q>, durationMsMax: number): Promise<R> {
    const untilMs = clock.nowMs() + durationMsMax;
    const token = await this.#token;
    return this.#ask(method, request, { durationMsMax: untilMs - clock.nowMs(), token });
  }

  /** Ends by itself when the member has no leader: it would tell nothing new. */
  async stream<Q, R>(
    { path, response }: Method<Q, R>,
    durationMsMax: number | undefined,
    { heard, ended }: { heard(message: R): void; ended(failure: EtcdFailure): void },
  ): Promise<Call> {
    const metadata = { hasleader: "true", ...tokenIn(await this.#token) };
    let nonsense: Error | undefined;
    const call = this.#grpc.open(
      { path, metadata, durationMsMax },
      {
        heard: (bytes) => {
          const message = attempt(() => decode(response, bytes));
          if (!(message instanceof RangeError)) return heard(message);
          nonsense = message;
          call.cancel();
        },
        ended: (failure) =>
          ended(new EtcdFailure(nonsense ?? failure ?? new Error("etcd ended the stream"))),
      },
    );
    return call;
  }

  close(): void {
    this.#grpc.close();
  }

  async #logIn({ username: name, password }: EtcdLogin): Promise<string> {
    const options = { durationMsMax: ATTEMPT_MS_MAX, token: undefined };
    return (await this.#ask(METHODS.authenticate, { name, password }, options)).token;
  }

  #ask<Q, R>(
    { path, request, response }: Method<Q, R>,
    question: Partial<Q>,
    { durationMsMax, token }: { durationMsMax: number; token: string | undefined },
  ): Promise<R> {
    return new Promise((resolve, reject) => {
      let reply: Buffer | undefined;
      const call = this.#grpc.open(
        { path, metadata: tokenIn(token), durationMsMax: Math.max(1, durationMsMax) },
        {
          heard: (message) => {
            reply = message;
          },
          ended: (failure) => {
            if (failure !== null) return reject(new EtcdFailure(failure));
            const answer = attempt(() => decode(response, reply ?? NOTHING));
            if (answer instanceof RangeError) return reject(new EtcdFailure(answer));
            resolve(answer);
          },
        },
      );
      call.write(encode(request, question));
      call.finish();
    });
  }
}

const NOTHING = Buffer.alloc(0);

/** What is no message is no crash. */
function attempt<T>(work: () => T): T | RangeError {
  try {
    return work();
  } catch (error) {
    if (error instanceof RangeError) return error;
    throw error;
  }
}

const tokenIn = (token: string | undefined): Record<string, string> =>
  token === undefined ? {} : { token };

interface StreamEvents<R> {
  heard(message: R): void;
  ended(failure: EtcdFailure): void;
  readonly durationMsMax?: number;
}

export interface Stream<Q> {
  write(message: Partial<Q>): void;
  cancel(): void;
  /** Its endpoint says nothing: nobody should ask it any more. */
  giveUp(): void;
}

export class EtcdClient {
  readonly #options: EtcdClientOptions;
  #index = 0;
  #connection: Connection | undefined;
  #closed = false;

  constructor(options: EtcdClientOptions) {
    this.#options = options;
  }

  /** Asks until somebody answers. Rejects with StateUnavailable, or EtcdFailure if it is final. */
  read<Q, R>(method: Method<Q, R>, request: Partial<Q>): Promise<R> {
    return this.#patiently(method, request, {
      attemptMs: ATTEMPT_MS_MAX,
      mayRepeat: () => true,
    });
  }

  /** The same, but what may have been done is not asked again. */
  write<Q, R>(method: Method<Q, R>, request: Partial<Q>): Promise<R> {
    return this.#patiently(method, request, {
      attemptMs: STATE_PATIENCE_MS,
      mayRepeat: (failure) => failure.isUnsent,
    });
  }

  /**
   * A stream to the endpoint in use; `heard` is called with each message, `ended` once, whatever
   * ended it. It ends when that endpoint is given up, by anybody.
   */
  async stream<Q, R>(
    method: Method<Q, R>,
    { heard, ended, durationMsMax }: StreamEvents<R>,
  ): Promise<Stream<Q>> {
    const connection = this.#connected();
    const failed = (failure: EtcdFailure): EtcdFailure => {
      if (failure.code !== CODE.cancelled) this.#giveUp(connection);
      return failure;
    };
    const call = await connection
      .stream(method, durationMsMax, { heard, ended: (failure) => ended(failed(failure)) })
      .catch((failure: EtcdFailure) => {
        throw failed(failure);
      });
    return {
      write: (message) => call.write(encode(method.request, message)),
      cancel: () => call.cancel(),
      giveUp: () => this.#giveUp(connection),
    };
  }

  close(): void {
    this.#closed = true;
    this.#disconnect();
  }

  assertOpen(): void {
    if (this.#closed) throw new Error("the cluster state is closed");
  }

  async #patiently<Q, R>(
    method: Method<Q, R>,
    request: Partial<Q>,
    { attemptMs, mayRepeat }: { attemptMs: number; mayRepeat(failure: EtcdFailure): boolean },
  ): Promise<R> {
    const giveUpAtMs = clock.nowMs() + STATE_PATIENCE_MS;
    for (;;) {
      const connection = this.#connected();
      const restMs = giveUpAtMs - clock.nowMs();
      try {
        return await connection.ask(method, request, Math.min(attemptMs, Math.max(1, restMs)));
      } catch (error) {
        if (!(error instanceof EtcdFailure)) throw error;
        this.assertOpen();
        if (error.isFinal) throw error;
        this.#giveUp(connection);
        const restMs = giveUpAtMs - clock.nowMs() - RETRY_DELAY_MS;
        if (restMs <= 0 || !mayRepeat(error)) throw this.unavailable(error);
      }
      await sleep(RETRY_DELAY_MS);
    }
  }

  unavailable(failure: EtcdFailure): StateUnavailable {
    const where = this.#options.endpoints.join(",");
    const does = failure.isFinal ? "refuses" : "is away";
    return new StateUnavailable(`the cluster state etcd://${where} ${does}: ${failure.message}`, {
      cause: failure,
    });
  }

  #connected(): Connection {
    this.assertOpen();
    this.#connection ??= this.#connect();
    return this.#connection;
  }

  #connect(): Connection {
    return new Connection(this.#options.endpoints[this.#index] as string, this.#options);
  }

  /** Whoever is asked next is another endpoint, or the same over new connections. */
  #giveUp(connection: Connection): void {
    if (connection !== this.#connection) return; // Somebody was faster.
    this.#disconnect();
    this.#index = (this.#index + 1) % this.#options.endpoints.length;
  }

  #disconnect(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }
}

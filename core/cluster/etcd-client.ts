/**
 * Conversations with an etcd cluster: one endpoint at a time, the next one when it fails, and an
 * end to every wait. Of `etcd3` it uses the protocol, its types and its channels; retries, logins
 * and streams are ours (DECISIONS.md says why).
 */
import { Etcd3, type IAuthenticateResponse, type IDuplexStream, type IOptions } from "etcd3";
import { clock, sleep } from "../runtime/clock.ts";
import { STATE_PATIENCE_MS, StateUnavailable } from "./state.ts";

/** What can be asked again is not waited for longer on one endpoint. */
const ATTEMPT_MS_MAX = 2_000;
const RETRY_DELAY_MS = 100;
/** etcd's own limit of a message is 1.5 MB; a page of records has many. */
const MESSAGE_SIZE_MAX = 64 * 1024 * 1024;
/**
 * etcd hangs up on who pings more often than every 5 s. Channels share no connections: one that
 * is stuck must not be found again behind a new channel.
 */
const CHANNEL_OPTIONS = {
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 3_000,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  "grpc.max_receive_message_length": MESSAGE_SIZE_MAX,
  "grpc.use_local_subchannel_pool": 1,
} as const;

export interface EtcdLogin {
  readonly username: string;
  readonly password: string;
}

/** PEM, as read from files. `ca` is who signed etcd's certificate; the system's list without. */
export interface EtcdTls {
  readonly ca?: Buffer | undefined;
  readonly certificate?: Buffer | undefined;
  readonly key?: Buffer | undefined;
  /** The name in etcd's certificate, where endpoints are addresses: gRPC looks for names only. */
  readonly serverName?: string | undefined;
}

export interface EtcdClientOptions {
  /** `host:port` of each member. */
  readonly endpoints: readonly string[];
  readonly tls?: EtcdTls | undefined;
  readonly login?: EtcdLogin | undefined;
}

/** gRPC status codes (https://grpc.io/docs/guides/status-codes/). */
const CODE = {
  cancelled: 1,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  failedPrecondition: 9,
  outOfRange: 11,
  unavailable: 14,
  unauthenticated: 16,
} as const;
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

  constructor(error: unknown) {
    const { code, details, message } = error as { code?: number; details?: string } & Error;
    super(code === CODE.deadlineExceeded ? "no answer" : details || message, { cause: error });
    this.code = code ?? CODE.unavailable;
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

  /** etcd has not seen the request, so even a write may be tried elsewhere. */
  get isUnsent(): boolean {
    if (this.isLoginStale) return true;
    return this.code === CODE.unavailable && this.message.startsWith("No connection established");
  }
}

type Service = Parameters<Connection["ask"]>[0];
type Call = (
  payload: unknown,
  metadata: unknown,
  options: { deadline: number },
  answered: (error: Error | null, reply: unknown) => void,
) => void;
type Open<Q, R> = (metadata: unknown, options: object) => IDuplexStream<Q, R>;

/** The channels to one endpoint. Its promises do not reject with what etcd3 makes of errors. */
class Connection extends Etcd3 {
  #token: Promise<string | undefined>;

  constructor(options: IOptions, login: EtcdLogin | undefined) {
    super(options);
    this.#token = Promise.resolve(undefined);
    if (login === undefined) return;
    const { username: name, password } = login;
    const deadline = clock.unixMs() + ATTEMPT_MS_MAX;
    this.#token = this.#send("Auth", "authenticate", { name, password }, deadline, undefined).then(
      (reply) => (reply as IAuthenticateResponse).token,
    );
    this.#token.catch(() => {}); // Told to every request that waits for it.
  }

  async ask(
    service: "KV" | "Lease" | "Auth",
    method: string,
    payload: unknown,
    deadline: number,
  ): Promise<unknown> {
    return this.#send(service, method, payload, deadline, await this.#token);
  }

  #send(
    service: Service,
    method: string,
    payload: unknown,
    deadline: number,
    token: string | undefined,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const send = (client: object, metadata: { set(key: string, value: string): void }): void => {
        if (token !== undefined) metadata.set("token", token);
        const call = (client as Record<string, Call>)[method] as Call;
        call.call(client, payload, metadata, { deadline }, (error, reply) => {
          if (error === null) resolve(reply);
          else reject(new EtcdFailure(error));
        });
      };
      this.pool
        .withConnection(service, ({ client, metadata }) => send(client, metadata))
        .catch((error: unknown) => reject(new EtcdFailure(error)));
    });
  }

  /** Ends by itself when the member has no leader: it would tell nothing new. */
  async stream<Q, R>(
    service: "Watch" | "Lease",
    method: string,
    options: object,
  ): Promise<IDuplexStream<Q, R>> {
    const token = await this.#token;
    return this.pool.withConnection(service, ({ client, metadata }) => {
      metadata.set("hasleader", "true");
      if (token !== undefined) metadata.set("token", token);
      const open = (client as unknown as Record<string, Open<Q, R>>)[method] as Open<Q, R>;
      return open.call(client, metadata, options);
    });
  }
}

/** What a failed request should do: nobody's circuit breakers and retries but ours. */
const AS_IT_IS = {
  execute: async (work: (context: object) => unknown) => work({}),
} as unknown as NonNullable<NonNullable<IOptions["faultHandling"]>["global"]>;

export interface Stream<Q> {
  write(message: Q): void;
  cancel(): void;
  /** Its endpoint says nothing: nobody should ask it any more. */
  giveUp(): void;
}

export class EtcdClient {
  readonly #options: EtcdClientOptions;
  #index = 0;
  #connection: Connection | undefined;
  #closed = false;
  /** Streams of the connection in use; they end with it. */
  readonly #streams = new Set<{ cancel(): void }>();

  constructor(options: EtcdClientOptions) {
    this.#options = options;
  }

  /** Asks until somebody answers. Rejects with StateUnavailable, or EtcdFailure if it is final. */
  read<T>(service: "KV" | "Lease", method: string, payload: object): Promise<T> {
    return this.#patiently<T>(service, method, payload, {
      attemptMs: ATTEMPT_MS_MAX,
      mayRepeat: () => true,
    });
  }

  /** The same, but what may have been done is not asked again. */
  write<T>(service: "KV" | "Lease", method: string, payload: object): Promise<T> {
    return this.#patiently<T>(service, method, payload, {
      attemptMs: STATE_PATIENCE_MS,
      mayRepeat: (failure) => failure.isUnsent,
    });
  }

  /**
   * A stream to the endpoint in use; `heard` is called with each message, `ended` once, whatever
   * ended it. It ends when that endpoint is given up, by anybody.
   */
  async stream<Q, R>(
    call: { service: "Watch" | "Lease"; method: string; deadlineMs?: number },
    { heard, ended }: { heard(message: R): void; ended(failure: EtcdFailure): void },
  ): Promise<Stream<Q>> {
    const connection = this.#connected();
    const { service, method, deadlineMs } = call;
    const options = deadlineMs === undefined ? {} : { deadline: clock.unixMs() + deadlineMs };
    const failed = (error: unknown): EtcdFailure => {
      const failure = error instanceof EtcdFailure ? error : new EtcdFailure(error);
      if (failure.code !== CODE.cancelled) this.#giveUp(connection);
      return failure;
    };
    const opening = connection.stream<Q, R>(service, method, options);
    const stream = await opening.catch((error: unknown) => {
      throw failed(error);
    });
    const end = (error: unknown): void => {
      if (this.#streams.delete(stream)) ended(failed(error));
    };
    this.#streams.add(stream);
    stream.on("error", end);
    stream.on("end", () => end(new Error("etcd ended the stream")));
    stream.on("data", heard);
    if (connection !== this.#connection) stream.cancel(); // Given up while it was opened.
    return {
      write: (message) => stream.write(message),
      cancel: () => stream.cancel(),
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

  async #patiently<T>(
    service: "KV" | "Lease",
    method: string,
    payload: object,
    { attemptMs, mayRepeat }: { attemptMs: number; mayRepeat(failure: EtcdFailure): boolean },
  ): Promise<T> {
    const giveUpAtMs = clock.nowMs() + STATE_PATIENCE_MS;
    for (;;) {
      const connection = this.#connected();
      const restMs = giveUpAtMs - clock.nowMs();
      try {
        const deadline = clock.unixMs() + Math.min(attemptMs, Math.max(1, restMs));
        return (await connection.ask(service, method, payload, deadline)) as T;
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
    const { endpoints, tls, login } = this.#options;
    const endpoint = endpoints[this.#index] as string;
    const credentials = {
      rootCertificate: tls?.ca ?? null,
      privateKey: tls?.key ?? null,
      certChain: tls?.certificate ?? null,
    } as unknown as NonNullable<IOptions["credentials"]>; // grpc-js takes null for "none".
    const { serverName } = tls ?? {};
    const override = serverName && { "grpc.ssl_target_name_override": serverName };
    const options: IOptions = {
      hosts: endpoint,
      grpcOptions: { ...CHANNEL_OPTIONS, ...override },
      faultHandling: { global: AS_IT_IS, host: () => AS_IT_IS },
      ...(tls === undefined ? {} : { credentials }),
    };
    return new Connection(options, login);
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
    for (const stream of this.#streams) stream.cancel();
  }
}

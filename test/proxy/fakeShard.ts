/** A shard that does exactly what a test says: a bare server with a hand on each connection. */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { until } from "../core/io/pair.ts";

const VERSION = "version\r\n";
const NOOP_SIZE = 24;

export class FakeConnection {
  readonly socket: Socket;
  readonly #chunks: Buffer[] = [];
  #consumedSize = 0;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#chunks.push(chunk));
    socket.on("error", () => socket.destroy());
  }

  /** What came and was not yet asked for. */
  get received(): Buffer {
    return Buffer.concat(this.#chunks).subarray(this.#consumedSize);
  }

  /** Waits until `size` bytes have come, and takes them. */
  async take(size: number): Promise<Buffer> {
    await until(`${size} bytes came`, () => this.received.length >= size);
    const bytes = this.received.subarray(0, size);
    this.#consumedSize += size;
    return bytes;
  }

  async takeText(text: string): Promise<void> {
    const bytes = await this.take(Buffer.byteLength(text, "latin1"));
    if (bytes.toString("latin1") !== text) throw new Error(`got ${bytes}, wanted ${text}`);
  }

  write(bytes: Buffer | string): void {
    this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
  }

  /** Each byte in a segment of its own, as far as a network does that. */
  async trickle(bytes: Buffer | string): Promise<void> {
    for (const byte of Buffer.from(bytes)) {
      this.socket.write(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Proves to be a memcached, as every fresh connection is asked to. */
  async validate(): Promise<void> {
    await until("it is asked who it is", () => this.received.length > 0);
    if (this.received[0] === 0x80) {
      const reply = Buffer.from(await this.take(NOOP_SIZE));
      reply[0] = 0x81;
      return this.write(reply);
    }
    await this.takeText(VERSION);
    this.write("VERSION 1.6.18\r\n");
  }

  reset(): void {
    this.socket.resetAndDestroy();
  }
}

export class FakeShard {
  readonly connections: FakeConnection[] = [];
  readonly #server: Server = createServer((socket) => {
    this.connections.push(new FakeConnection(socket));
  });
  #address = "";
  #nextIndex = 0;

  static async start(): Promise<FakeShard> {
    const shard = new FakeShard();
    await shard.listen();
    return shard;
  }

  get address(): string {
    return this.#address;
  }

  /** Listens where it did before, if it ever did. */
  async listen(): Promise<void> {
    const port = this.#address === "" ? 0 : Number(this.#address.split(":")[1]);
    this.#server.listen(port, "127.0.0.1");
    await once(this.#server, "listening");
    const bound = this.#server.address();
    if (bound === null || typeof bound === "string") throw new Error("no port");
    this.#address = `127.0.0.1:${bound.port}`;
  }

  /** The next connection that was not yet asked for. */
  async next(): Promise<FakeConnection> {
    const index = this.#nextIndex++;
    await until("somebody connects", () => this.connections.length > index);
    return this.connections[index] as FakeConnection;
  }

  /** The next connection, once it has proved to be a memcached. */
  async nextValid(): Promise<FakeConnection> {
    const connection = await this.next();
    await connection.validate();
    return connection;
  }

  async stop(): Promise<void> {
    for (const { socket } of this.connections) socket.destroy();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, "close");
  }
}

/**
 * A server of XMPP that does as its script says: behaves for a while, then not. The little of
 * SCRAM and stream management in it is written apart from ours, and read with plain patterns.
 */
import { createHmac, pbkdf2Sync, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import type { AddressInfo, Socket } from "node:net";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { TLSSocket } from "node:tls";
import { makeCertificates } from "../../harness/certificates.ts";
import { temporaryFolder } from "../../harness/processes.ts";

const PASSWORD = "pw-monitor";
const DEADLINE_MS = 10_000;
const HEADER =
  '<?xml version="1.0"?><stream:stream from="alert.test" id="1" version="1.0" ' +
  'xmlns="jabber:client" xmlns:stream="http://etherx.jabber.org/streams">';
const base64 = (text: string) => Buffer.from(text).toString("base64");
const hmac = (key: Buffer, text: string) => createHmac("sha256", key).update(text).digest();

/** What the login does wrong. */
export type Wrongs = {
  mechanisms?: readonly string[];
  iterationCount?: number;
  /** In place of the last message of SCRAM. */
  last?: string;
};

/** One connection, seen from the server. */
export class Peer {
  /** Everything the client said that no pattern has taken. */
  said = "";
  all = "";
  isClosed = false;
  #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#listen(socket);
  }

  secure(tls: { key: string; cert: string }): void {
    this.#socket.removeAllListeners("data");
    this.#socket = new TLSSocket(this.#socket, { isServer: true, ...tls });
    this.#listen(this.#socket);
  }

  #listen(socket: Socket): void {
    socket.on("data", (bytes: Buffer) => {
      this.said += bytes;
      this.all += bytes;
    });
    socket.on("error", () => {}); // Clients that give a rogue up do so rudely.
    socket.on("close", () => {
      this.isClosed = true;
    });
  }

  write(text: string | Buffer): void {
    if (!this.isClosed) this.#socket.write(text);
  }

  end(): void {
    this.#socket.end();
  }

  /** The first match of what was said; all up to it is taken. */
  async hear(pattern: RegExp): Promise<RegExpExecArray> {
    const deadline = Date.now() + DEADLINE_MS;
    for (;;) {
      const match = pattern.exec(this.said);
      if (match !== null) {
        this.said = this.said.slice(match.index + match[0].length);
        return match;
      }
      if (Date.now() > deadline) throw new Error(`waited for ${pattern}, heard ${this.said}`);
      if (this.isClosed) throw new Error("the client has gone");
      await sleep(2);
    }
  }

  async open(features: string): Promise<void> {
    await this.hear(/<stream:stream [^>]*>/);
    this.write(`${HEADER}<stream:features>${features}</stream:features>`);
  }

  async authenticate({ mechanisms, iterationCount = 4096, last }: Wrongs = {}): Promise<void> {
    const offered = (mechanisms ?? ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
      .map((name) => `<mechanism>${name}</mechanism>`)
      .join("");
    const sasl = 'xmlns="urn:ietf:params:xml:ns:xmpp-sasl"';
    await this.open(`<mechanisms ${sasl}>${offered}</mechanisms>`);
    const [, first = ""] = await this.hear(/<auth [^>]*mechanism="SCRAM-SHA-256"[^>]*>([^<]*)</);
    const bare = Buffer.from(first, "base64").toString().slice("n,,".length);
    const nonce = `${bare.split(",r=")[1]}${randomBytes(9).toString("base64url")}`;
    const salt = randomBytes(16);
    const challenge = `r=${nonce},s=${salt.toString("base64")},i=${iterationCount}`;
    this.write(`<challenge ${sasl}>${base64(challenge)}</challenge>`);
    const [, response = ""] = await this.hear(/<response [^>]*>([^<]*)</);
    const withoutProof = Buffer.from(response, "base64").toString().split(",p=")[0];
    const salted = pbkdf2Sync(PASSWORD, salt, iterationCount, 32, "sha256");
    const everything = `${bare},${challenge},${withoutProof}`;
    const proof = hmac(hmac(salted, "Server Key"), everything).toString("base64");
    this.write(`<success ${sasl}>${base64(last ?? `v=${proof}`)}</success>`);
  }

  /** All of it, until the client may send. */
  async logIn(): Promise<void> {
    await this.authenticate();
    await this.establish();
  }

  async establish(): Promise<void> {
    const bind = '<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/>';
    await this.open(`${bind}<sm xmlns="urn:xmpp:sm:3"/>`);
    const binding = /<iq [^>]*id="bind".*<resource>([^<]*)<.*<\/iq>/;
    const [asked] = await this.hear(/<(?:resume|iq) /);
    this.said = asked + this.said;
    if (asked.startsWith("<resume")) {
      await this.hear(/<resume [^>]*\/>/);
      this.write('<failed xmlns="urn:xmpp:sm:3"/>');
    }
    const [, resource] = await this.hear(binding);
    const jid = `monitor@alert.test/${resource}`;
    this.write(
      `<iq type="result" id="bind">${bind.replace("/>", `><jid>${jid}</jid></bind>`)}</iq>`,
    );
    await this.hear(/<enable [^>]*\/>/);
    this.write('<enabled xmlns="urn:xmpp:sm:3" id="rogue" resume="true"/>');
    await this.hear(/<presence>.*<\/presence>/);
  }
}

export type Script = (peer: Peer, connectionCount: number) => Promise<unknown> | unknown;

export class Rogue {
  readonly port: number;
  /** Connections so far. */
  readonly peers: readonly Peer[];
  readonly passwordFile: string;
  readonly caFile: string;
  readonly #close: () => void;

  private constructor(port: number, caFile: string, peers: readonly Peer[], close: () => void) {
    this.port = port;
    this.peers = peers;
    this.caFile = caFile;
    this.#close = close;
    this.passwordFile = join(temporaryFolder("rogue"), "password");
    writeFileSync(this.passwordFile, PASSWORD, { mode: 0o600 });
  }

  /** `isTls` false: the script gets the bare connection. */
  static async start(script: Script, isTls = true): Promise<Rogue> {
    const { ca, server: files } = certificates();
    const tls = {
      key: readFileSync(files.key, "utf8"),
      cert: readFileSync(files.certificate, "utf8"),
    };
    const peers: Peer[] = [];
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      const peer = new Peer(socket);
      peers.push(peer);
      if (isTls) peer.secure(tls);
      // A script that the client leaves is over; what matters is what the client told.
      Promise.resolve(script(peer, peers.length)).catch(() => {});
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
    const { port } = server.address() as AddressInfo;
    const rogue = new Rogue(port, ca, peers, () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    return rogue;
  }

  get account() {
    const { port, passwordFile, caFile } = this;
    return { jid: "monitor@alert.test", host: "127.0.0.1", port, passwordFile, caFile };
  }

  stop(): void {
    this.#close();
  }
}

let made: ReturnType<typeof makeCertificates> | undefined;
/** Made once for a test file. */
const certificates = () => {
  made ??= makeCertificates(["DNS:alert.test"]);
  return made;
};

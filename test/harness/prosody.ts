/**
 * A real XMPP server: prosody in a folder of its own, with its own authority, ports, accounts and a
 * group that puts everybody into everybody's roster (without it nobody owes a receipt). It can be
 * stopped, killed and started again on its port; accounts and what was stored for people who are
 * offline survive that. Passwords are `pw-<name>`, in files that only the owner may read.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { makeCertificates } from "./certificates.ts";
import { freePort } from "./ports.ts";
import { find, Running, temporaryFolder, waitForListener } from "./processes.ts";

export type ProsodyOptions = {
  /** Local parts of its accounts. */
  people?: readonly string[];
  domain?: string;
  /** Names in its certificate, when it must not match: `DNS:other.test`. */
  certificateNames?: readonly string[];
  /** Seconds without a byte until it doubts a session; prosody itself says 840. */
  readTimeoutS?: number;
  /** Seconds for which it keeps a session whose connection is gone. */
  hibernationS?: number;
  /** False takes stream management (XEP-0198) away. */
  hasStreamManagement?: boolean;
};

const PEOPLE = ["monitor", "monitor2", "alice", "bob", "carol", "dave"];
const READY_DEADLINE_MS = 10_000;

export class Prosody {
  readonly domain: string;
  /** Where rooms live: `war@<rooms>`. */
  readonly rooms: string;
  /** Direct TLS, at 127.0.0.1. */
  readonly port: number;
  readonly host = "127.0.0.1";
  readonly caFile: string;
  readonly #folder: string;
  #running: Running | undefined;
  #logStart = 0;

  private constructor(folder: string, port: number, caFile: string, domain: string) {
    this.#folder = folder;
    this.port = port;
    this.caFile = caFile;
    this.domain = domain;
    this.rooms = `rooms.${domain}`;
  }

  static async start(options: ProsodyOptions = {}): Promise<Prosody> {
    const domain = options.domain ?? "alert.test";
    const folder = temporaryFolder("prosody");
    const names = [`DNS:${domain}`, `DNS:rooms.${domain}`];
    const { ca, server } = makeCertificates(options.certificateNames ?? names);
    const prosody = new Prosody(folder, await freePort(), ca, domain);
    for (const person of options.people ?? PEOPLE) prosody.addAccount(person);
    prosody.#writeGroup(options.people ?? PEOPLE);
    mkdirSync(join(folder, "certs")); // Looked for beside the configuration, and complained about.
    const parts = { ...options, domain, folder, port: prosody.port, server };
    writeFileSync(join(folder, "prosody.cfg.lua"), configuration(parts));
    await prosody.startAgain();
    return prosody;
  }

  jid(person: string): string {
    return `${person}@${this.domain}`;
  }

  password(person: string): string {
    return `pw-${person}`;
  }

  passwordFile(person: string): string {
    return join(this.#folder, `${person}.password`);
  }

  /** The account as options of a link (`XmppOptions`). */
  account(person: string): {
    jid: string;
    passwordFile: string;
    host: string;
    port: number;
    caFile: string;
  } {
    const { host, port, caFile } = this;
    return { jid: this.jid(person), passwordFile: this.passwordFile(person), host, port, caFile };
  }

  /** Also changes the password of one that exists; prosody looks at each login. */
  addAccount(person: string, password = this.password(person)): void {
    const accounts = join(this.#folder, "data", this.domain.replaceAll(".", "%2e"), "accounts");
    mkdirSync(accounts, { recursive: true });
    const text = `return { ["password"] = ${JSON.stringify(password)} };\n`;
    writeFileSync(join(accounts, `${person}.dat`), text);
    writeFileSync(this.passwordFile(person), `${this.password(person)}\n`, { mode: 0o600 });
  }

  /** Everything since it was started last. */
  get log(): string {
    return readFileSync(this.#logFile).subarray(this.#logStart).toString();
  }

  get pid(): number {
    return this.#running?.pid ?? 0;
  }

  signal(signal: NodeJS.Signals): void {
    this.#running?.child.kill(signal);
  }

  /** As an operator stops it: sessions end, what is stored is kept. */
  async halt(): Promise<void> {
    this.signal("SIGCONT");
    await this.#running?.stop();
  }

  /** SIGKILL: sessions and what was not yet acknowledged are gone. */
  async kill(): Promise<void> {
    await this.#running?.stop("SIGKILL");
  }

  async startAgain(): Promise<void> {
    writeFileSync(this.#logFile, "", { flag: "a" });
    this.#logStart = readFileSync(this.#logFile).length;
    const args = ["--config", join(this.#folder, "prosody.cfg.lua"), "-F"];
    this.#running = new Running("prosody", find("prosody") ?? "prosody", args);
    await waitForListener(`127.0.0.1:${this.port}`, this.#running);
    await this.#ownsPort();
  }

  async stop(): Promise<void> {
    await this.kill();
  }

  get #logFile(): string {
    return join(this.#folder, "prosody.log");
  }

  /** A lost race for the port does not stop prosody; only its log says whose port it is. */
  async #ownsPort(): Promise<void> {
    const proof = `Activated service 'c2s_direct_tls' on [127.0.0.1]:${this.port}`;
    const deadline = Date.now() + READY_DEADLINE_MS;
    while (!this.log.includes(proof)) {
      if (Date.now() > deadline) throw new Error(`prosody does not own its port:\n${this.log}`);
      await sleep(15);
    }
  }

  #writeGroup(people: readonly string[]): void {
    const lines = people.map((person) => `${this.jid(person)}=${person}`);
    writeFileSync(join(this.#folder, "groups.txt"), `[On call]\n${lines.join("\n")}\n`);
  }
}

type Parts = ProsodyOptions & {
  domain: string;
  folder: string;
  port: number;
  server: { certificate: string; key: string };
};

function configuration(parts: Parts): string {
  const { domain, folder, port, server } = parts;
  const ssl = `ssl = { certificate = "${server.certificate}", key = "${server.key}" }`;
  const smacks = parts.hasStreamManagement === false ? "" : '"smacks", ';
  return `
run_as_root = true
pidfile = "${folder}/prosody.pid"
data_path = "${folder}/data"
plugin_paths = { }
log = { { levels = { min = "info" }, to = "file", filename = "${folder}/prosody.log" } }
network_backend = "epoll"
network_settings = { nagle = false, read_timeout = ${parts.readTimeoutS ?? 840} }
interfaces = { "127.0.0.1" }
c2s_ports = { }
c2s_direct_tls_ports = { ${port} }
s2s_ports = { }
http_ports = { }
https_ports = { }
c2s_require_encryption = true
allow_unencrypted_plain_auth = false
authentication = "internal_plain"
storage = "internal"
groups_file = "${folder}/groups.txt"
modules_enabled = { "saslauth", "tls", "roster", "disco", "ping", "time", "version", ${smacks}
  "carbons", "offline", "mam", "csi_simple", "blocklist", "groups", "posix" }
modules_disabled = { "s2s", "s2s_auth_certs", "dialback" }
smacks_hibernation_time = ${parts.hibernationS ?? 10}
smacks_max_unacked_stanzas = 0
archive_expires_after = "1d"
${ssl}
VirtualHost "${domain}"
  ${ssl}
Component "rooms.${domain}" "muc"
  modules_enabled = { "muc_mam" }
  restrict_room_creation = "local"
`;
}

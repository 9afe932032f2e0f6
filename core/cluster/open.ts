/**
 * Where the cluster state is, as people write it: `sqlite` for the file in the data directory, or
 * `etcd://host:port,host:port/prefix`. What etcd needs is loaded only where etcd is used.
 */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { z } from "zod";
import { formatAddress, parseAddress } from "../runtime/config.ts";
import type { Kind } from "./records.ts";
import { openSqliteState } from "./sqlite.ts";
import type { ClusterState } from "./state.ts";

const ETCD_PORT = 2379;
const ENDPOINT_COUNT_MAX = 16;
const PREFIX_DEFAULT = "memward";
/** Printable ASCII, as ids are. */
const PREFIX_PATTERN = /^[!-~]{0,200}$/;

export type StatePlace =
  | { engine: "sqlite" }
  | { engine: "etcd"; endpoints: string[]; prefix: string; isTls: boolean };

/** The place, or what is wrong with the text. */
export function parseStateUrl(text: string): StatePlace | string {
  if (text === "sqlite") return { engine: "sqlite" };
  const [, scheme, hosts = "", path = ""] = /^(etcds?):\/\/([^/]*)(\/.*)?$/.exec(text) ?? [];
  if (scheme === undefined) return "must be sqlite or etcd://HOST:PORT,HOST:PORT/PREFIX";
  if (hosts.includes("@")) return "must not hold a login; that has options of its own";
  const endpoints = hosts.split(",").map((host) => {
    const address = parseAddress(host) ?? parseAddress(`${host}:${ETCD_PORT}`);
    return address && address.port > 0 ? formatAddress(address) : undefined;
  });
  if (endpoints.length > ENDPOINT_COUNT_MAX) return `must name ${ENDPOINT_COUNT_MAX} hosts at most`;
  const wrong = endpoints.indexOf(undefined);
  if (wrong >= 0) return `${JSON.stringify(hosts.split(",")[wrong])} is not HOST:PORT`;
  const name = path.replace(/^\/+|\/+$/g, "") || PREFIX_DEFAULT;
  if (!PREFIX_PATTERN.test(name)) return "must have a prefix of printable characters, at most 200";
  const prefix = `/${name}/`;
  return { engine: "etcd", endpoints: endpoints as string[], prefix, isTls: scheme === "etcds" };
}

const file = (help: string) => z.string().min(1).optional().describe(help).meta({ word: "FILE" });

/** What it takes to be let in by etcd; the section `etcd` of a configuration file. */
export const etcdOptions = z.strictObject({
  caFile: file("PEM file of who signed etcd's certificate; the connection is then TLS"),
  certFile: file("PEM file of the certificate that we show to etcd"),
  keyFile: file("PEM file of the key of that certificate"),
  serverName: z
    .string()
    .min(1)
    .optional()
    .describe("name in etcd's certificate, where the URL of the state has addresses")
    .meta({ word: "NAME" }),
  username: z
    .string()
    .min(1)
    .optional()
    .describe("user of etcd to log in as")
    .meta({ word: "NAME" }),
  passwordFile: file("file with the password of that user"),
});
export type EtcdOptions = z.infer<typeof etcdOptions>;

/** What cannot work, of all that is checked beforehand; undefined when all is well. */
export function stateProblem(url: string, etcd: EtcdOptions): string | undefined {
  const place = parseStateUrl(url);
  if (typeof place === "string") return `state: ${place}`;
  const { certFile, keyFile, username, passwordFile, serverName } = etcd;
  if ((certFile === undefined) !== (keyFile === undefined)) {
    return "etcd: certFile and keyFile belong together";
  }
  if ((username === undefined) !== (passwordFile === undefined)) {
    return "etcd: username and passwordFile belong together";
  }
  if (place.engine === "sqlite" || !usesTls(place, etcd) || serverName !== undefined) return;
  const address = place.endpoints.find((one) => isIP(parseAddress(one)?.host ?? "") !== 0);
  if (address === undefined) return undefined;
  return `etcd: TLS to ${address} needs serverName, the name in its certificate`;
}

const usesTls = ({ isTls }: { isTls: boolean }, { caFile, certFile }: EtcdOptions): boolean =>
  isTls || caFile !== undefined || certFile !== undefined;

/** Option and variable of where the state is. */
export const stateOption = z
  .string()
  .superRefine((text, context) => {
    const place = parseStateUrl(text);
    if (typeof place === "string") context.addIssue({ code: "custom", message: place });
  })
  .describe("where the cluster state is: sqlite, or etcd://HOST:PORT,HOST:PORT/PREFIX (etcds: TLS)")
  .meta({ word: "URL" });

export interface StateOptions {
  readonly url: string;
  /** Of the SQLite file. */
  readonly path: string;
  readonly etcd?: EtcdOptions;
  /** What its watches have to tell of; they may tell of others, too. All kinds without. */
  readonly kinds?: readonly Kind[] | undefined;
  readonly troubled: (error: unknown) => void;
}

/**
 * Throws StateFileError when the file is unusable and the system's error when a file of the etcd
 * options cannot be read; it does not wait for etcd.
 */
export async function openState(options: StateOptions): Promise<ClusterState> {
  const { url, path, etcd = {}, kinds, troubled } = options;
  const place = parseStateUrl(url);
  if (typeof place === "string") throw new Error(`state ${url} ${place}`);
  if (place.engine === "sqlite") return openSqliteState({ path, troubled });
  const { openEtcdState } = await import("./etcd.ts");
  const { caFile, certFile, keyFile, serverName, username, passwordFile } = etcd;
  const read = (name: string | undefined) => (name === undefined ? undefined : readFileSync(name));
  const password =
    read(passwordFile)
      ?.toString()
      .replace(/\r?\n$/, "") ?? "";
  return openEtcdState({
    endpoints: place.endpoints,
    prefix: place.prefix,
    tls: usesTls(place, etcd)
      ? { ca: read(caFile), certificate: read(certFile), key: read(keyFile), serverName }
      : undefined,
    login: username === undefined ? undefined : { username, password },
    kinds,
    troubled,
  });
}

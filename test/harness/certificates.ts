/** Certificates made by openssl, for 127.0.0.1 unless told: an authority, a server and a client. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "./processes.ts";

export type Certificate = { certificate: string; key: string };
export type Certificates = { ca: string; server: Certificate; client: Certificate };

const THIS_MACHINE = ["IP:127.0.0.1", "DNS:localhost"];

/** `names` as openssl writes them in a subjectAltName: `DNS:alert.test`. */
export function makeCertificates(names: readonly string[] = THIS_MACHINE): Certificates {
  const folder = temporaryFolder("memward-certificates");
  const at = (name: string): string => join(folder, name);
  const openssl = (...args: string[]): void =>
    void execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl(
    "req",
    "-x509",
    ...newKey,
    "-keyout",
    at("ca.key"),
    "-out",
    at("ca.pem"),
    "-subj",
    "/CN=ca",
  );
  writeFileSync(at("names"), `subjectAltName=${names.join(",")}\n`);
  const sign = (name: string): Certificate => {
    const request = ["-keyout", at(`${name}.key`), "-out", at(`${name}.csr`)];
    openssl("req", ...newKey, ...request, "-subj", `/CN=${name}`);
    const authority = ["-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial"];
    const made = ["-in", at(`${name}.csr`), "-out", at(`${name}.pem`), "-extfile", at("names")];
    openssl("x509", "-req", ...authority, ...made);
    return { certificate: at(`${name}.pem`), key: at(`${name}.key`) };
  };
  return { ca: at("ca.pem"), server: sign("server"), client: sign("client") };
}

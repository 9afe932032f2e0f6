/**
 * The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677): the password never leaves us, and the
 * server has to prove that it knows it, too. Pure but for the key derivation, which runs on a
 * helper thread.
 */
import { createHash, createHmac, pbkdf2, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

export const MECHANISM = "SCRAM-SHA-256";

const DIGEST = "sha256";
const KEY_SIZE = 32;
/** Fewer are too quick to guess; more would let a server keep us busy. */
const ITERATIONS_MIN = 4096;
const ITERATIONS_MAX = 1_000_000;
/** No channel binding, and none was seen to be offered: `n,,` in base64. */
const HEADER = "n,,";
const FIELD_SIZE_MAX = 1024;

const derive = promisify(pbkdf2);
const hmac = (key: Buffer, text: string): Buffer => createHmac(DIGEST, key).update(text).digest();

export interface Proof {
  /** The client's last message. */
  readonly message: string;
  /** What the server's last message has to carry. */
  readonly serverSignature: Buffer;
}

export interface Login {
  readonly username: string;
  readonly password: string;
  /** Printable, without comma; fresh and unguessable for each login. */
  readonly nonce: string;
}

export function firstMessage(login: Login): string {
  return `${HEADER}${firstBare(login)}`;
}

function firstBare({ username, nonce }: Login): string {
  const name = username.normalize("NFKC").replaceAll("=", "=3D").replaceAll(",", "=2C");
  return `n=${name},r=${nonce}`;
}

/** The answer to the server's challenge; undefined when the challenge is none we accept. */
export async function prove(login: Login, challenge: string): Promise<Proof | undefined> {
  const fields = /^r=([^,]+),s=([A-Za-z0-9+/=]+),i=(\d{1,7})(?:,.*)?$/.exec(challenge);
  const [, nonce = "", salt = "", iterations = ""] = fields ?? [];
  const iterationCount = Number(iterations);
  if (challenge.length > FIELD_SIZE_MAX) return undefined;
  if (!nonce.startsWith(login.nonce) || nonce.length === login.nonce.length) return undefined;
  if (iterationCount < ITERATIONS_MIN || iterationCount > ITERATIONS_MAX) return undefined;

  const password = login.password.normalize("NFKC");
  const saltBytes = Buffer.from(salt, "base64");
  const salted = await derive(password, saltBytes, iterationCount, KEY_SIZE, DIGEST);
  const binding = Buffer.from(HEADER).toString("base64");
  const withoutProof = `c=${binding},r=${nonce}`;
  const everything = `${firstBare(login)},${challenge},${withoutProof}`;

  const clientKey = hmac(salted, "Client Key");
  const storedKey = createHash(DIGEST).update(clientKey).digest();
  const signature = hmac(storedKey, everything);
  const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] ?? 0)));
  return {
    message: `${withoutProof},p=${proof.toString("base64")}`,
    serverSignature: hmac(hmac(salted, "Server Key"), everything),
  };
}

/** Whether the server's last message proves that it knows the password; in constant time. */
export function isProven({ serverSignature }: Proof, message: string): boolean {
  if (!message.startsWith("v=") || message.length > FIELD_SIZE_MAX) return false;
  const said = Buffer.from(message.slice(2).split(",", 1)[0] ?? "", "base64");
  return said.length === serverSignature.length && timingSafeEqual(said, serverSignature);
}

/** Which dialect a connection speaks, from its first byte. */
import { MAGIC_REQUEST } from "./binary.ts";

/** First byte of a TLS record: handshake (RFC 8446, section 5.1). */
const TLS_HANDSHAKE = 0x16;

export type Detected = "binary" | "text" | "tls";

export function detectDialect(firstByte: number): Detected {
  if (firstByte === MAGIC_REQUEST) return "binary";
  return firstByte === TLS_HANDSHAKE ? "tls" : "text";
}

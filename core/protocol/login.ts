/**
 * The three ways in which clients say who they are, as pure functions from bytes to a username and
 * a password. Passwords stay bytes: they are compared, never printed.
 */

export type Login = { username: string; password: Uint8Array };

/**
 * SASL PLAIN (RFC 4616): `[authzid] NUL authcid NUL password`. libmemcached repeats the username
 * as authzid; others leave it empty; nobody may act for somebody else. Null when that is not so,
 * or there are not exactly two NULs, or no username.
 */
export function parseSaslPlain(message: Buffer): Login | null {
  const first = message.indexOf(0);
  const second = message.indexOf(0, first + 1);
  if (first < 0 || second < 0 || second === first + 1) return null;
  if (message.indexOf(0, second + 1) >= 0) return null;
  const username = message.toString("utf8", first + 1, second);
  if (first > 0 && message.toString("utf8", 0, first) !== username) return null;
  return { username, password: message.subarray(second + 1) };
}

/**
 * The first `set` of a text connection, in both known forms:
 * `set <username> 0 0 <n>` with the password as value, or (memcached's own, protocol.txt
 * "Authentication") `set <any> 0 0 <n>` with `username password` as value. A password of ours
 * holds no blank, so a blank decides.
 */
export function parseTextLogin(key: Buffer, value: Buffer): Login | null {
  const blank = value.indexOf(0x20);
  if (blank < 0) return { username: key.toString("utf8"), password: value };
  if (blank === 0) return null;
  return { username: value.toString("utf8", 0, blank), password: value.subarray(blank + 1) };
}

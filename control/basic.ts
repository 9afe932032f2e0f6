/** HTTP Basic (RFC 7617), as all clients send it. */

export interface BasicLogin {
  readonly username: string;
  readonly password: string;
}

/** The login of an Authorization header; undefined if it holds none. */
export function basicLogin(header: string | undefined): BasicLogin | undefined {
  const [, encoded] = /^Basic +([A-Za-z0-9+/=_-]+) *$/i.exec(header ?? "") ?? [];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, "base64").toString();
  const colon = text.indexOf(":");
  if (colon < 0) return undefined;
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** Addresses of XMPP (RFC 7622), as far as we need them: compared bare, never prepared anew. */

/** `person@domain` of `person@domain/device`, in lower case as servers compare it. */
export function bareJid(jid: string): string {
  const slash = jid.indexOf("/");
  return (slash === -1 ? jid : jid.slice(0, slash)).toLowerCase();
}

/** What follows the first slash: a device, or the nick in a room; "" for a bare JID. */
export function resourceOf(jid: string): string {
  const slash = jid.indexOf("/");
  return slash === -1 ? "" : jid.slice(slash + 1);
}

const PART_SIZE_MAX = 1023;

/** The parts of a bare JID; undefined when it is none: no name, no domain, a device. */
export function parseBareJid(jid: string): { local: string; domain: string } | undefined {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: no part may have them.
  const [, local, domain] = /^([^\u0000- "&'/:<>@\u007f]+)@([^\u0000- @/\u007f]+)$/.exec(jid) ?? [];
  if (local === undefined || domain === undefined) return undefined;
  const isTooLong = [local, domain].some((part) => Buffer.byteLength(part) > PART_SIZE_MAX);
  return isTooLong ? undefined : { local, domain: domain.toLowerCase() };
}

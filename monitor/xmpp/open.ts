/** The way to a link for those who may not need one: what it costs is loaded when it is opened. */
import type { XmppOptions } from "../config/schema.ts";
import type { XmppLink } from "./link.ts";

/**
 * A link that is not started yet. `resource` tells monitors of one account apart; the same one
 * after a restart takes over what was meant for the process before.
 */
export async function openXmppLink(
  options: XmppOptions & { resource?: string },
): Promise<XmppLink> {
  const { XmppClient } = await import("./client.ts");
  return new XmppClient(options);
}

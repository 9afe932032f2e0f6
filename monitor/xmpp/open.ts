/** The way to a link for those who may not need one: what it costs is loaded when it is opened. */
import type { XmppOptions } from "../config/schema.ts";
import type { XmppLink } from "./link.ts";

export interface LinkOptions extends XmppOptions {
  /**
   * Tells monitors of one account apart; the same one after a restart takes over what was meant
   * for the process before.
   */
  readonly resource?: string | undefined;
  /** Bare addresses whose wish to see us is granted, where no shared roster does that. */
  readonly contacts?: readonly string[] | undefined;
}

/** A link that is not started yet. */
export async function openXmppLink(options: LinkOptions): Promise<XmppLink> {
  const { XmppClient } = await import("./client.ts");
  return new XmppClient(options);
}

/**
 * The seam between deciding whom to tell and the protocol that carries it: one connection of one
 * account, which comes and goes. What is behind it (`client.ts`) knows XMPP; what is above it
 * (the outbox) knows incidents. Nothing is queued here: `send` while down rejects.
 */

/** A message to one bare or full JID, or to a room. */
export interface OutgoingMessage {
  readonly id: string;
  readonly to: string;
  readonly body: string;
  /** A receipt (XEP-0184) and displayed marker (XEP-0333) are asked for. Never in rooms. */
  readonly wantsReceipt: boolean;
  readonly isRoom: boolean;
  /** The machine-readable child, attributes of one element in a namespace of our own. */
  readonly payload?: Readonly<Record<string, string>>;
}

export interface IncomingText {
  readonly id: string;
  /** Full JID that the server stamped. */
  readonly from: string;
  readonly body: string;
  /** When it was sent, if a server kept it meanwhile (XEP-0203); null when it is fresh. */
  readonly delayedAtMs: number | null;
  /** Came from a room: `from` is room/nick. */
  readonly isRoom: boolean;
}

/** Why a session ended or none came about; the words of logs and of the metric's label. */
export type DownReason =
  | "stopped" // We closed it.
  | "password_file" // Not readable, or readable by everybody.
  | "unreachable" // No route, name unknown, nobody listens.
  | "timed_out" // Somebody listens and does not answer.
  | "certificate" // Not signed by the authority, for another name, expired.
  | "closed" // The server or the network ended the connection.
  | "not_authorized" // Wrong password, account disabled.
  | "no_mechanism" // The server does not offer SCRAM-SHA-256.
  | "server_unproven" // It took the login without knowing the password.
  | "no_stream_management"
  | "malformed" // Not XML, or not what the protocol allows at this point.
  | "too_large" // A stanza beyond what is even skipped.
  | "stream_error" // The server said why, see the detail.
  | "conflict" // Another session of this account took the resource.
  | "silent"; // The connection stands, acknowledgements stopped coming.

/** Something came, or was kept from being sent, and nobody should act on it. */
export type IgnoredReason =
  | "carbon"
  | "own"
  | "echo"
  | "room_history"
  | "unknown_room"
  | "room_presence"
  | "room_lost"
  | "headline"
  | "no_body"
  | "no_sender"
  | "error_without_id"
  | "presence_error"
  | "subscription"
  | "stray_reply"
  | "request_refused"
  | "too_large"
  | "unknown_device"
  | "unknown_stanza";

export interface XmppEvents {
  /** A session that is fit for sending: logged in, stream management enabled, presence sent. */
  up(): void;
  /**
   * A session ended; or no session comes about, told once for each reason until it is up again.
   * `detail` is for logs: what was heard, never a secret.
   */
  down(reason: DownReason, detail: string): void;
  /** The next hop has it (XEP-0198). */
  accepted(id: string): void;
  /**
   * It may have been delivered or not: the session that carried it is gone. Told at the next login,
   * since until then the session might be resumed and nothing be lost.
   */
  unsure(id: string): void;
  /** A device of this full JID has the message `id` (XEP-0184). */
  received(from: string, id: string): void;
  displayed(from: string, id: string): void;
  /** An error stanza came back for the message `id`; `condition` as in RFC 6120, 8.3.3. */
  bounced(from: string, id: string, condition: string): void;
  text(message: IncomingText): void;
  /** `priority` is null when the device has gone. */
  presence(from: string, priority: number | null, show: string): void;
  /** Something came that nobody should act on; counted by its reason. */
  ignored(reason: IgnoredReason): void;
}

export interface XmppLink {
  /** Begins to connect, and again whenever the connection is lost; never throws. */
  start(events: XmppEvents): void;
  readonly isUp: boolean;
  /** Resolves when it is on its way; rejects while down. */
  send(message: OutgoingMessage): Promise<void>;
  /** Round trip to a device or server in milliseconds (XEP-0199), null without an answer in time. */
  ping(jid: string, timeoutMs: number): Promise<number | null>;
  /** Enters a room, without its history, and again after each login; rejects when refused. */
  join(room: string, nick: string): Promise<void>;
  /** Says goodbye, waits a moment for outstanding acknowledgements, and never comes back. */
  close(): Promise<void>;
}

/** How an XMPP account is configured: the `xmpp` part of the monitor's configuration. */
import { isIP } from "node:net";
import { z } from "zod";
import { parseBareJid } from "./jid.ts";

const PORT_DIRECT_TLS = 5223;

const accountJid = z.string().refine(
  (jid) => {
    const parts = parseBareJid(jid);
    return parts !== undefined && isIP(parts.domain) === 0;
  },
  { error: "must be the address of an account, like monitor@alert.example" },
);

export const xmppOptions = z.strictObject({
  jid: accountJid.describe("the account that pages, like monitor@alert.example"),
  passwordFile: z
    .string()
    .min(1)
    .describe("file with the account's password, readable by its owner only"),
  host: z
    .string()
    .min(1)
    .max(255)
    .optional()
    .describe("where the server is; default: the domain of the account"),
  port: z
    .number()
    .int()
    .min(1)
    .max(65_535)
    .default(PORT_DIRECT_TLS)
    .describe("port that speaks TLS from the first byte (not STARTTLS)"),
  caFile: z
    .string()
    .min(1)
    .optional()
    .describe(
      "authorities that may have signed the server's certificate, PEM; default: the public",
    ),
});

export type XmppOptions = z.infer<typeof xmppOptions>;

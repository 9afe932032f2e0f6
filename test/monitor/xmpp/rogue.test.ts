/**
 * Servers that misbehave at every point: told with a reason, never a crash, tried again. A rejection
 * that nobody handles fails the whole run.
 */
import { afterEach, describe, expect, test } from "vitest";
import { XmppClient, type XmppClientOptions } from "../../../monitor/xmpp/client.ts";
import type { Timings } from "../../../monitor/xmpp/session.ts";
import { missing } from "../../harness/processes.ts";
import { Observed } from "./observed.ts";
import { type Peer, Rogue, type Script } from "./rogue.ts";

const absent = missing("openssl");
const FAST: Timings = { stepMsMax: 1_500, silenceMsMax: 1_500, askIntervalMs: 200, askDelayMs: 5 };
const SM = 'xmlns="urn:xmpp:sm:3"';
const SASL = 'xmlns="urn:ietf:params:xml:ns:xmpp-sasl"';
const STREAMS = 'xmlns="urn:ietf:params:xml:ns:xmpp-streams"';
const forEver = () => new Promise<void>(() => {});

describe.skipIf(absent !== undefined)(`rogue servers ${absent ?? ""}`, () => {
  const closing: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0)) await close();
  });

  async function meet(
    script: Script,
    { isTls = true, ...more }: Partial<XmppClientOptions> & { isTls?: boolean } = {},
  ) {
    const rogue = await Rogue.start(script, isTls);
    const link = new XmppClient({ ...rogue.account, timings: FAST, ...more });
    closing.push(
      () => rogue.stop(),
      () => link.close(),
    );
    const told = new Observed();
    link.start(told);
    return { rogue, link, told };
  }
  const page = (link: XmppClient, id: string) =>
    link.send({ id, to: "alice@alert.test", body: id, wantsReceipt: true, isRoom: false });

  describe("before TLS", () => {
    test.each<[string, Script, RegExp]>([
      ["accepts and never answers", forEver, /^down timed_out while connecting/],
      ["hangs up", (peer) => peer.end(), /^down closed/],
      ["speaks HTTP", (peer) => peer.write("HTTP/1.1 400 Bad Request\r\n\r\n"), /^down malformed/],
      [
        "speaks XMPP without TLS",
        (peer) => peer.write("<?xml version='1.0'?><stream:stream/>"),
        /^down malformed/,
      ],
    ])("%s", async (_, script, down) => {
      const { rogue, told } = await meet(script, { isTls: false });
      await told.until(down);
      await expect.poll(() => rogue.peers.length, { timeout: 10_000 }).toBeGreaterThan(1);
      expect(told.lines).toHaveLength(1);
    });
  });

  describe("before the login", () => {
    const answer = (xml: string) => async (peer: Peer) => {
      await peer.hear(/<stream:stream [^>]*>/);
      peer.write(xml);
    };
    const stream = (inside: string) =>
      `<stream:stream xmlns="jabber:client" xmlns:stream="http://etherx.jabber.org/streams">${inside}`;
    test.each<[string, Script, RegExp]>([
      ["takes the stream and never answers", forEver, /^down timed_out while opening/],
      ["answers with HTTP", answer("HTTP/1.1 400 Bad Request\r\n"), /^down malformed/],
      ["opens something else", answer("<html>"), /^down malformed not a stream/],
      [
        "opens a stream of another kind",
        answer('<stream xmlns="x">'),
        /^down malformed not a stream/,
      ],
      [
        "sends what is no UTF-8",
        (peer) => peer.write(Buffer.from([0x3c, 0xff])),
        /^down malformed/,
      ],
      [
        "sends a message first",
        answer(stream("<message/>")),
        /^down malformed <message> while opening/,
      ],
      ["ends the stream", answer(stream("</stream:stream>")), /^down closed/],
      [
        "says why it will not",
        answer(
          stream(
            `<stream:error><host-unknown ${STREAMS}/><text ${STREAMS}>who?\n</text></stream:error>`,
          ),
        ),
        /^down stream_error host-unknown: who\?/,
      ],
      [
        "sends us elsewhere",
        answer(
          stream(
            `<stream:error><see-other-host ${STREAMS}>evil.test</see-other-host></stream:error>`,
          ),
        ),
        /^down stream_error see-other-host/,
      ],
      [
        "offers no login",
        answer(stream("<stream:features/>")),
        /^down no_mechanism offered: nothing/,
      ],
      ["never ends an element", answer(stream(`<x>${"y".repeat(1_200_000)}`)), /^down too_large/],
    ])("%s", async (_, script, down) => {
      const { told } = await meet(script);
      await told.until(down);
      expect(told.lines.join()).not.toContain("\n");
    });
  });

  describe("in the login", () => {
    const auth = async (peer: Peer, xml: string) => {
      const offer = `<mechanisms ${SASL}><mechanism>SCRAM-SHA-256</mechanism></mechanisms>`;
      await peer.open(offer);
      await peer.hear(/<auth /);
      peer.write(xml);
    };
    test.each<[string, Script, RegExp]>([
      [
        "asks for the password",
        (peer) => peer.authenticate({ mechanisms: ["PLAIN", "SCRAM-SHA-1"] }),
        /^down no_mechanism offered: PLAIN SCRAM-SHA-1/,
      ],
      [
        "wants a weak key",
        (peer) => peer.authenticate({ iterationCount: 1 }),
        /^down server_unproven/,
      ],
      [
        "lets us in without a proof",
        (peer) => auth(peer, `<success ${SASL}/>`),
        /^down server_unproven/,
      ],
      [
        "takes our proof and gives none",
        (peer) => peer.authenticate({ last: "" }),
        /^down server_unproven/,
      ],
      [
        "gives a false proof",
        (peer) => peer.authenticate({ last: `v=${"A".repeat(43)}=` }),
        /^down server_unproven the server does not know/,
      ],
      [
        "challenges with nonsense",
        (peer) => auth(peer, `<challenge ${SASL}>!!!</challenge>`),
        /^down server_unproven/,
      ],
      [
        "says something else",
        (peer) => auth(peer, "<message/>"),
        /^down malformed <message> while authenticating/,
      ],
      [
        "fails for now",
        (peer) => auth(peer, `<failure ${SASL}><temporary-auth-failure/></failure>`),
        /^down stream_error temporary/,
      ],
      ["never decides", (peer) => auth(peer, ""), /^down timed_out while authenticating/],
    ])("%s", async (_, script, down) => {
      const { told, rogue } = await meet(script);
      await told.until(down);
      const heard = rogue.peers.map(({ all }) => all).join();
      expect(heard).not.toContain("pw-monitor");
      expect(heard).not.toContain(Buffer.from("\0monitor\0pw-monitor").toString("base64"));
      expect(told.count(/^up/)).toBe(0);
    });
  });

  describe("in a session", () => {
    test.each<[string, string | Buffer, RegExp]>([
      ["broken XML", "<message><body></message>", /^down malformed/],
      ["an unknown entity", "<message><body>&x;</body></message>", /^down malformed/],
      ["a document type", '<!DOCTYPE a [<!ENTITY b "c">]>', /^down malformed/],
      ["what is no UTF-8", Buffer.from([0x3c, 0x61, 0xff]), /^down malformed/],
      [
        "more acknowledgements than stanzas",
        `<a ${SM} h="99"/>`,
        /^down malformed acknowledged more/,
      ],
      ["an acknowledgement of nothing", `<a ${SM}/>`, /^down malformed acknowledged more/],
      ["a negative one", `<a ${SM} h="-1"/>`, /^down malformed acknowledged more/],
      ["an endless stanza", `<message><body>${"x".repeat(1_200_000)}`, /^down too_large/],
      [
        "that another took the resource",
        `<stream:error><conflict ${STREAMS}/></stream:error>`,
        /^down conflict/,
      ],
      ["the end of the stream", "</stream:stream>", /^down closed/],
    ])("%s ends it, and the next one comes", async (_, bytes, down) => {
      const { told, link } = await meet(async (peer, count) => {
        await peer.logIn();
        if (count === 1) peer.write(bytes);
      });
      await told.until(/^up/);
      const from = await told.until(down);
      await told.until(/^up/, { from });
      await page(link, "1.1.alice");
    });

    test("silence is noticed, and what was sent is unsure when the session is gone", async () => {
      const { told, link } = await meet(async (peer, count) => {
        if (count === 1) return peer.logIn();
        await peer.authenticate();
        await peer.open(`<sm ${SM}/>`);
        await peer.hear(/<resume [^>]*previd="rogue"[^>]*\/>/);
        peer.write(`<failed ${SM} h="2"><item-not-found/></failed>`);
        const [, id = ""] = await peer.hear(/<iq [^>]*id="(bind)".*<\/iq>/);
        const jid = "<jid>monitor@alert.test/x</jid>";
        const bind = `<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind">${jid}</bind>`;
        peer.write(`<iq type="result" id="${id}">${bind}</iq>`);
        await peer.hear(/<enable [^>]*\/>/);
        peer.write(`<enabled ${SM}/>`);
      });
      await told.until(/^up/);
      await page(link, "1.1.alice"); // The second stanza, after the presence.
      await page(link, "1.2.alice");
      const from = await told.until(/^down silent/);
      await told.until(/^up/, { from });
      // The server still knew how many it had: the first is sure, only the second is not.
      expect(told.lines.filter((line) => /alice/.test(line))).toEqual([
        "accepted 1.1.alice",
        "unsure 1.2.alice",
      ]);
    });

    test("what nobody should act on is counted by its reason, and the session goes on", async () => {
      const from = 'from="alice@alert.test/phone"';
      const { told } = await meet(async (peer) => {
        await peer.logIn();
        peer.write(
          [
            `<message ${from} type="error"/>`,
            `<message ${from}/>`,
            "<message><body>ack 17</body></message>",
            `<message ${from} type="headline"><body>ack 17</body></message>`,
            '<iq type="result" id="never-asked" from="alert.test"/>',
            '<presence type="unavailable" from="bob@alert.test/x"/>',
            '<presence type="subscribe" from="bob@alert.test"/>',
            `<message ${from}>${"<x>".repeat(40)}${"</x>".repeat(40)}</message>`,
            `<unknown xmlns="jabber:client"/><a ${SM} h="0"/>`,
            `<message ${from} type="error" id="9.9.bob"/>`,
            `<r ${SM}/>`,
          ].join(""),
        );
        // Stanzas were counted, skipped ones too; what is none was not.
        await peer.hear(/<a [^>]*h="9"\/>/);
        peer.write(`<message ${from}><body>heard</body></message>`);
      });
      await told.until(/^text alice@alert.test\/phone false fresh heard$/);
      expect(told.lines.filter((line) => line !== "up").slice(0, -1)).toEqual([
        "ignored error_without_id",
        "ignored no_body",
        "ignored no_sender",
        "ignored headline",
        "ignored stray_reply",
        "ignored unknown_device",
        "ignored subscription",
        "ignored too_large",
        "bounced alice@alert.test/phone 9.9.bob undefined-condition",
      ]);
    });

    test("an answer from somebody else is no answer to a ping", async () => {
      const { told, link } = await meet(async (peer) => {
        await peer.logIn();
        const [, id] = await peer.hear(/<iq type="get" to="alice@alert.test\/phone" id="([^"]+)"/);
        peer.write(`<iq type="result" id="${id}" from="mallory@alert.test/x"/>`);
        peer.write(`<iq type="result" id="${id}" from="alice@alert.test/phone"/>`);
      });
      await told.until(/^up/);
      expect(await link.ping("alice@alert.test/phone", 5_000)).toBeGreaterThan(0);
      expect(told.lines).toContain("ignored stray_reply");
    });

    test("a server that acknowledges nothing is sent a thousand stanzas, not more", async () => {
      const { told, link } = await meet((peer) => peer.logIn(), {
        timings: { ...FAST, silenceMsMax: 60_000 },
      });
      await told.until(/^up/);
      for (let count = 1; count < 1_000; count += 1) await page(link, `1.${count}.alice`);
      await expect(page(link, "1.1000.alice")).rejects.toThrow("too many");
      expect(await link.ping("alert.test", 1_000)).toBeNull();
    });

    test("a link that closes while it connects, or before it does, ends at once", async () => {
      const { told, link } = await meet(forEver);
      await link.close();
      await link.close();
      expect(told.lines).toEqual(["down stopped"]);
      const early = new XmppClient({ jid: "m@alert.test", passwordFile: "/nowhere", port: 1 });
      await early.close();
      early.start(new Observed());
      expect(early.isUp).toBe(false);
    });
  });
});

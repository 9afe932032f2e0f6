/**
 * A credential with a key prefix: its sessions see their own keys and nothing of the prefix, in
 * all dialects; a session without one sees the same items under their full keys.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeWith } from "../../e2e/suite.ts";
import { binaryTranscript } from "../../fuzz/transcript.ts";
import { type Memcached, startMemcached } from "../../harness/processes.ts";
import {
  type PacketFields,
  packet,
  readPackets,
  type Split,
  saslPlain,
} from "../../harness/wire.ts";
import { PASSWORD, TestWorker } from "../worker.ts";
import {
  base64,
  LAST_PACKET,
  LAST_REPLY,
  META,
  PACKETS,
  say,
  TEXT,
  tell,
  uint32,
} from "./allCommands.ts";

const PREFIX = "app:é:";
/** Strings of these tests are bytes. */
const STORED_PREFIX = Buffer.from(PREFIX).toString("latin1");
const PREFIX_SIZE = STORED_PREFIX.length;
const LONG_PREFIX = "p".repeat(200);
const ALL = ["read", "write", "flush", "api"] as const;
const LOGINS = { everything: ALL, app: ALL, long: ALL, other: ALL, reader: ["read"] } as const;
const PREFIXES = { app: PREFIX, long: LONG_PREFIX, other: "Vm", reader: PREFIX };

const SPLITS: [string, Split][] = [
  ["at once", "whole"],
  ["byte by byte", "bytes"],
];

describeWith(["memcached"], "a credential with a key prefix", () => {
  const shards: Memcached[] = [];
  let worker: TestWorker;
  /** A cache of its own, where nobody has a prefix. */
  let twin: TestWorker;
  beforeAll(async () => {
    shards.push(...(await Promise.all(Array.from({ length: 6 }, () => startMemcached()))));
    const addresses = shards.map(({ address }) => address);
    worker = await new TestWorker({
      shards: addresses.slice(0, 3),
      logins: LOGINS,
      prefixes: PREFIXES,
    }).start();
    twin = await new TestWorker({ shards: addresses.slice(3) }).start();
  });
  afterAll(async () => {
    await worker.stop();
    await twin.stop();
    for (const shard of shards) await shard.stop();
  });

  const flush = async (): Promise<void> => {
    for (const at of [await worker.openAs("everything", "text"), await twin.open()]) {
      expect(await at.line("flush_all")).toBe("OK");
      at.close();
    }
    // memcached's flush is by the second: what is stored in it is gone, too.
    await new Promise((resolve) => setTimeout(resolve, 1_050));
  };

  describe.each(SPLITS)("%s", (_, split) => {
    test("is answered in text as if it had none", async () => {
      await flush();
      const wire = await worker.openAs("app", "text");
      for (const [sent, answer] of TEXT) expect(await say(wire, sent, split), sent).toBe(answer);
    });

    test("is answered in meta as if it had none", async () => {
      await flush();
      const wire = await worker.openAs("app", "text");
      const plain = await twin.open();
      for (const [sent, answer] of META) {
        expect(await say(wire, sent, split), sent).toBe(answer);
        expect(await say(plain, sent), sent).toBe(answer);
      }
    });

    test("is answered in binary as if it had none", async () => {
      await flush();
      const wire = await worker.openAs("app", "binary");
      const plain = await twin.openAs("all", "binary");
      for (const fields of PACKETS) {
        const got = binaryTranscript(await tell(wire, [fields], split));
        expect(got, `${fields.opcode}`).toEqual(binaryTranscript(await tell(plain, [fields])));
      }
      const again = binaryTranscript(await tell(wire, PACKETS, split));
      expect(again).toEqual(binaryTranscript(await tell(plain, PACKETS)));
    });
  });

  test("and one without meet at the same items of the same shards", async () => {
    await flush();
    const app = await worker.openAs("app", "text");
    const all = await worker.openAs("everything", "text");
    const binary = await worker.openAs("app", "binary");
    for (let i = 0; i < 50; i++) {
      expect(await say(app, `set key-${i} 0 0 2\r\n${10 + i}\r\n`)).toBe("STORED\r\n");
      const full = `${STORED_PREFIX}key-${i}`;
      expect(await say(all, `get ${full}\r\n`)).toBe(`VALUE ${full} 0 2\r\n${10 + i}\r\nEND\r\n`);
      await say(all, `append ${full} 0 0 1\r\n!\r\n`);
      const { packets } = readPackets(await tell(binary, [{ opcode: "getk", key: `key-${i}` }]));
      expect([String(packets[0]?.key), String(packets[0]?.value)]).toEqual([
        `key-${i}`,
        `${10 + i}!`,
      ]);
      expect(await say(app, `mg ${base64(`key-${i}`)} v k b\r\n`)).toBe(
        `VA 3 kkey-${i}\r\n${10 + i}!\r\n`,
      );
      expect(await say(all, `get key-${i}\r\n`)).toBe("END\r\n");
    }
  });

  test("gets hundreds of keys in the order asked, in portions and from all shards", async () => {
    for (const [username, sizeMax] of [
      ["app", 250 - PREFIX_SIZE],
      ["long", 50],
    ] as const) {
      const wire = await worker.openAs(username, "text");
      const keys = Array.from({ length: 300 }, (_, i) =>
        i % 7 === 0 ? `many-${i}-`.padEnd(sizeMax, "k") : `many-${i}`,
      );
      const present = keys.filter((_, i) => i % 3 !== 0);
      for (const key of present)
        await wire.send(`set ${key} 0 0 ${key.length} noreply\r\n${key}\r\n`);
      const blocks = present.map((key) => `VALUE ${key} 0 ${key.length}\r\n${key}\r\n`).join("");
      const line = `get  ${keys.join(" ")} \r\n`;
      expect(await say(wire, line)).toBe(`${blocks}END\r\n`);
      const cuts = Array.from({ length: line.length }, (_, i) => i).filter((i) => i % 97 === 0);
      expect(await say(wire, line, cuts)).toBe(`${blocks}END\r\n`);
      expect(await say(wire, `gat 0 ${keys.join(" ")}\r\n`)).toBe(`${blocks}END\r\n`);
    }
  });

  test("carries values of every size there and back", async () => {
    const wire = await worker.openAs("app", "text");
    for (const size of [0, 1, 16_000, 20_000, 100_000, 1_000_000]) {
      const value = "v".repeat(size);
      expect(await say(wire, `set large 0 0 ${size}\r\n${value}\r\n`)).toBe("STORED\r\n");
      expect(await say(wire, "get large\r\n")).toBe(`VALUE large 0 ${size}\r\n${value}\r\nEND\r\n`);
      expect(await say(wire, `ms large ${size} k\r\n${value}\r\n`)).toBe("HD klarge\r\n");
      expect(await say(wire, "mg large v k\r\n")).toBe(`VA ${size} klarge\r\n${value}\r\n`);
      expect(await say(wire, "get x large large\r\n")).toBe(
        `${`VALUE large 0 ${size}\r\n${value}\r\n`.repeat(2)}END\r\n`,
      );
    }
  });

  describe("whose key is too long with it", () => {
    const fits = "k".repeat(250 - PREFIX_SIZE);
    const tooLong = `${fits}k`;
    const refusal = "CLIENT_ERROR key is too long with the key prefix of the credential\r\n";

    test("hears so in text, and nothing of its value is a command", async () => {
      const wire = await worker.openAs("app", "text");
      expect(await say(wire, `set ${fits} 0 0 1\r\nx\r\n`)).toBe("STORED\r\n");
      expect(await say(wire, `get ${fits}\r\n`)).toBe(`VALUE ${fits} 0 1\r\nx\r\nEND\r\n`);
      const lines = [
        `set ${tooLong} 0 0 4\r\nmn\r\n\r\n`,
        ...["add", "replace", "append", "prepend"].map(
          (verb) => `${verb} ${tooLong} 0 0 1\r\nx\r\n`,
        ),
        `cas ${tooLong} 0 0 1 5\r\nx\r\n`,
        `get ${tooLong}\r\n`,
        `gets a ${tooLong} b\r\n`,
        `gat 0 ${Array.from({ length: 100 }, (_, i) => `k${i}`).join(" ")} ${tooLong}\r\n`,
        ...["delete K", "incr K 1", "decr K 1", "touch K 0"].map(
          (line) => `${line.replace("K", tooLong)}\r\n`,
        ),
        `mg ${tooLong} v\r\n`,
        `ms ${tooLong} 4 q\r\nmn\r\n\r\n`,
        ...["md", "ma", "me"].map((verb) => `${verb} ${tooLong}\r\n`),
        `mg ${base64("k".repeat(187 - PREFIX_SIZE))} v b\r\n`,
      ];
      for (const line of lines) expect(await say(wire, line), line).toBe(refusal);
      // As memcached's own complaints about such a line: noreply hears nothing.
      expect(await say(wire, `set ${tooLong} 0 0 4 noreply\r\nmn\r\n\r\n`)).toBe("");
      expect(await say(wire, `delete ${tooLong} noreply\r\n`)).toBe("");
      const base64Fits = base64("k".repeat(186 - PREFIX_SIZE));
      expect(await say(wire, `mg ${base64Fits} v b\r\n`)).toBe("EN\r\n");
    });

    test("hears so in binary, quiet or not", async () => {
      const wire = await worker.openAs("app", "binary");
      const asked: PacketFields[] = [
        { opcode: "get", key: tooLong },
        { opcode: "getkq", key: tooLong },
        { opcode: "set", key: tooLong, extras: uint32(0, 0), value: "x" },
        { opcode: "setq", key: tooLong, extras: uint32(0, 0), value: "x" },
        { opcode: "deleteq", key: tooLong },
        { opcode: "gatk", key: tooLong, extras: uint32(0) },
      ];
      const { packets } = readPackets(await tell(wire, asked));
      expect(packets.map(({ status, value }) => [status, String(value)])).toEqual(
        asked.map(() => [0x04, "Key is too long with the key prefix of the credential"]),
      );
      const { packets: fitting } = readPackets(
        await tell(wire, [
          { opcode: "set", key: fits, extras: uint32(0, 0), value: "x" },
          { opcode: "getk", key: fits },
        ]),
      );
      expect(fitting.map(({ status, key }) => [status, String(key)])).toEqual([
        [0, ""],
        [0, fits],
      ]);
    });
  });

  test("drops the old value of its own key, and no other, by one that is too large", async () => {
    const all = await worker.openAs("everything", "text");
    const app = await worker.openAs("app", "text");
    const binary = await worker.openAs("app", "binary");
    const full = `${STORED_PREFIX}big`;
    const large = "x".repeat(1_048_577);
    const sent: (() => Promise<unknown>)[] = [
      () => say(app, `set big 0 0 1048577\r\n${large}\r\n`),
      () => say(app, `ms big 1048577\r\n${large}\r\n`),
      () => say(app, `ms ${base64("big")} 1048577 b\r\n${large}\r\n`),
      () => tell(binary, [{ opcode: "set", key: "big", extras: uint32(0, 0), value: large }]),
    ];
    for (const send of sent) {
      await say(all, `set big 0 0 1\r\nx\r\nset ${full} 0 0 1\r\nx\r\n`);
      await send();
      await expect
        .poll(() => say(all, `get big ${full}\r\n`))
        .toBe("VALUE big 0 1\r\nx\r\nEND\r\n");
    }
  });

  test("may not flush, whatever its rights, nor reset the figures of all", async () => {
    const all = await worker.openAs("everything", "text");
    const text = await worker.openAs("app", "text");
    const binary = await worker.openAs("app", "binary");
    await say(all, "set precious 0 0 1\r\nx\r\n");
    const refusal = "credential has a key prefix and may not flush";
    expect(await say(text, "flush_all\r\n")).toBe(`CLIENT_ERROR ${refusal}\r\n`);
    expect(await say(text, "flush_all 5\r\n")).toBe(`CLIENT_ERROR ${refusal}\r\n`);
    expect(await say(text, "flush_all noreply\r\n")).toBe("");
    expect(await say(text, "stats reset\r\n")).toBe(
      "CLIENT_ERROR credential may not reset stats\r\n",
    );
    const asked: PacketFields[] = [
      { opcode: "flush" },
      { opcode: "flushq" },
      { opcode: "flush", extras: uint32(5) },
      { opcode: "stat", key: "reset" },
    ];
    const { packets } = readPackets(await tell(binary, asked));
    expect(packets.map(({ status, value }) => [status, String(value)])).toEqual([
      ...Array(3).fill([0x05, refusal]),
      [0x05, "credential may not reset stats"],
    ]);
    expect(await say(all, "get precious\r\n")).toContain("VALUE precious");
    expect(await say(all, "stats reset\r\n")).toBe("RESET\r\n");
  });

  test("sees no key in stats", async () => {
    const all = await worker.openAs("everything", "text");
    await say(all, "set precious 0 0 1\r\nx\r\n");
    const app = await worker.openAs("app", "text");
    for (const argument of ["", "items", "slabs", "sizes", "settings"]) {
      const shown = String(await app.ask(`stats ${argument}\r\n`, "END\r\n"));
      expect(shown).not.toContain("precious");
    }
    for (const argument of ["cachedump 1 100", "detail dump", "detail on", "conns", "items x"]) {
      expect(await say(app, `stats ${argument}\r\n`), argument).not.toContain("precious");
    }
    for (const line of [
      "lru_crawler metadump all",
      "watch fetchers",
      "cache_memlimit 64",
      "debugitem k",
    ]) {
      expect(await say(app, `${line}\r\n`), line).toBe("ERROR\r\n");
    }
  });

  test("cannot reach a key outside by writing it in base64 where it is none", async () => {
    const all = await worker.openAs("everything", "text");
    const app = await worker.openAs("app", "text");
    const binary = await worker.openAs("app", "binary");
    // What a proxy would ask for that took the flag for one where memcached does not.
    const inner = base64(`${STORED_PREFIX}x`);
    await say(all, `set ${inner} 0 0 6\r\nsecret\r\nset x 0 0 6\r\nsecret\r\n`);
    for (const flags of ["b", "v b", "bx", "b b", "v k b", "k bb", "q b", "O1 b"]) {
      for (const key of [base64("x"), inner, "x", base64(`\0${inner}`)]) {
        for (const verb of ["mg", "me", "md", "ma"]) {
          const shown = await say(app, `${verb} ${key} ${flags}\r\n`);
          expect(shown, `${verb} ${key} ${flags}`).not.toMatch(/^(VA|HD|ME)|secret/);
        }
      }
    }
    const odd = [`\n${inner}`, ` ${inner}`, `x\r\nget ${inner}`, `\0x`, `${STORED_PREFIX}x`];
    const { packets } = readPackets(
      await tell(
        binary,
        odd.map((key) => ({ opcode: "getk", key })),
      ),
    );
    expect(packets.map(({ status, key }) => [status, key.toString("latin1")])).toEqual(
      odd.map((key) => [1, key]),
    );
    expect(await say(all, `get ${inner} x\r\n`)).toContain("secret");
  });

  test("tells raw keys from base64 where both look alike", async () => {
    // "Vm0w" is base64 of "Vm0", which begins with the prefix "Vm" as well.
    const other = await worker.openAs("other", "text");
    const binary = await worker.openAs("other", "binary");
    await tell(binary, [{ opcode: "set", key: "0w b", extras: uint32(0, 0), value: "x" }]);
    expect(await say(other, `mg ${base64("0w b")} k v b\r\n`)).toBe("VA 1 k0w b\r\nx\r\n");
    await say(other, `ms ${base64("0")} 1 b\r\nx\r\n`);
    expect(await say(other, "mg 0 k\r\n")).toBe(`HD k${base64("0")} b\r\n`);
  });

  test("sees in me its own key, raw or in base64", async () => {
    const app = await worker.openAs("app", "text");
    await say(app, `set plain 0 0 1\r\nx\r\nms ${base64("coded")} 1 b\r\nx\r\n`);
    expect(await say(app, "me plain\r\n")).toMatch(/^ME plain exp=-1 la=\d+ cas=\d+ /);
    expect(await say(app, `me ${base64("coded")} b\r\n`)).toMatch(
      new RegExp(`^ME ${base64("coded")} exp=-1 `),
    );
    expect(await say(app, "me coded\r\n")).toMatch(new RegExp(`^ME ${base64("coded")} exp=-1 `));
  });

  test("keeps a line with its prefix short enough for shards, and the connection open", async () => {
    const app = await worker.openAs("app", "text");
    for (const blanks of [1_900, 2_000, 2_040]) {
      const line = `mg k${" ".repeat(blanks)}k\r\n`;
      expect(await say(app, line)).toBe(
        line.length + PREFIX_SIZE > 2_048 ? "CLIENT_ERROR line too long\r\n" : "EN kk\r\n",
      );
    }
  });

  test("that logs in as another one gets the replies of each with the right keys", async () => {
    const wire = await worker.openAs("app", "binary");
    const asked = (names: readonly string[]): Buffer =>
      Buffer.concat(
        names.flatMap((username) => [
          saslPlain({ username, password: PASSWORD }),
          packet({ opcode: "set", key: "who", extras: uint32(0, 0), value: username }),
          packet({ opcode: "getk", key: "who" }),
          packet({ opcode: "getk", key: "none" }),
        ]),
      );
    const names = ["app", "long", "everything", "app", "other", "everything"];
    await wire.send(Buffer.concat([asked(names), LAST_PACKET]));
    const { packets } = readPackets((await wire.readUntil(LAST_REPLY)).bytes);
    const shown = packets
      .filter(({ opcode }) => opcode === 0x0c)
      .map(({ key, value }) => `${key} ${value}`);
    expect(shown).toEqual(names.flatMap((username) => [`who ${username}`, "none "]));
  });

  test("loses its sessions when the prefix is changed, and keeps them when rights are", async () => {
    const changing = await new TestWorker({
      shards: shards.slice(0, 3).map(({ address }) => address),
      logins: { one: ALL },
      prefixes: { one: "one:" },
    }).start();
    const wire = await changing.openAs("one", "text");
    expect(await say(wire, "set k 0 0 1\r\nx\r\n")).toBe("STORED\r\n");
    changing.changeLogin("one", { rights: ["read"], keyPrefix: "one:" });
    expect(await say(wire, "set k 0 0 1\r\ny\r\n")).toBe(
      "CLIENT_ERROR credential is read-only\r\n",
    );
    expect(await say(wire, "get k\r\n")).toBe("VALUE k 0 1\r\nx\r\nEND\r\n");
    changing.changeLogin("one", { rights: ["read"], keyPrefix: "two:" });
    expect((await wire.readToClose()).ended).toBe("closed");
    const again = await changing.openAs("one", "text");
    expect(await say(again, "get k\r\n")).toBe("END\r\n");
    await changing.stop();
  });

  test("leaves nothing behind when its client goes in the middle of it all", async () => {
    const leaving = await new TestWorker({
      shards: shards.slice(0, 3).map(({ address }) => address),
      logins: LOGINS,
      prefixes: PREFIXES,
    }).start();
    const line = `get ${Array.from({ length: 200 }, (_, i) => `k${i}`).join(" ")}\r\nmg a k v\r\n`;
    for (const dialect of ["text", "binary"] as const) {
      const wire = await leaving.openAs("app", dialect);
      const packets = Array.from({ length: 50 }, () => packet({ opcode: "getk", key: "a" }));
      await wire.send(dialect === "text" ? line.repeat(20) : Buffer.concat(packets));
      wire.reset();
    }
    await leaving.untilNothingIsHeld();
    await leaving.stop();
  });
});

/** The bytes of etcd's messages: as protobufjs writes them from etcd's own files, and whatever else may come. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decode, EVENT, encode, METHODS } from "../../../core/cluster/etcd-messages.ts";

const { range, txn, watch, leaseGrant, leaseKeepAlive, leaseRevoke } = METHODS;
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");

describe("requests", () => {
  test("are the bytes of the specification", () => {
    const create = {
      key: Buffer.from("/a"),
      rangeEnd: Buffer.from("/b"),
      startRevision: 300,
      fragment: true,
    };
    expect(encode(watch.request, { create })).toEqual(hex("0a0d 0a022f61 12022f62 18ac02 4001"));
    expect(encode(leaseRevoke.request, { id: "7587890264474371331" })).toEqual(
      hex("08 838a8f85e4bfe6a669"),
    );
    expect(
      encode(txn.request, {
        compare: [{ target: 2, key: Buffer.from("k"), modRevision: 0 }],
        success: [{ put: { key: Buffer.from("k"), value: Buffer.from("v") } }],
        failure: [],
      }),
    ).toEqual(hex("0a07 1002 1a016b 3000 1208 1206 0a016b 120176"));
    expect(encode(leaseGrant.request, {})).toEqual(Buffer.alloc(0));
  });
});

describe("answers", () => {
  test("are read field by field; what is not in the table is passed over", () => {
    const bytes = hex(
      // What we do not read: cluster_id, member_id and raft_term; watch_id; of events create_revision,
      // version and lease.
      "0a1a 08b298eaf1948386fccd01 10cdd2918bd2b881cf8e01 180c 2002 1000" +
        "5a1f 0800 121b 0a026b31 1005 180c 2002 2a0568656c6c6f 30838a8f85e4bfe6a669" +
        "5a0a 0801 1206 0a026b32 180d",
    );
    const message = decode(watch.response, Buffer.alloc(0));
    expect(message).toEqual({
      header: undefined,
      created: false,
      canceled: false,
      compactRevision: 0,
      cancelReason: "",
      fragment: false,
      events: [],
    });
    const events = decode(watch.response, bytes).events;
    expect(events.map(({ type, kv }) => [type, String(kv?.key), String(kv?.value)])).toEqual([
      [EVENT.put, "k1", "hello"],
      [EVENT.delete, "k2", ""],
    ]);
    expect(events.map(({ kv }) => kv?.modRevision)).toEqual([12, 13]);
    expect(decode(watch.response, bytes).header?.revision).toBe(12);
  });

  test("lists of one message are not those of the next", () => {
    const one = decode(range.response, hex("1204 0a026b31"));
    expect(one.kvs).toHaveLength(1);
    expect(decode(range.response, Buffer.alloc(0)).kvs).toEqual([]);
  });

  test("ids have 64 bits, below zero as well", () => {
    expect(decode(leaseGrant.response, hex("10 838a8f85e4bfe6a669")).id).toBe(
      "7587890264474371331",
    );
    expect(decode(leaseGrant.response, hex("10 ffffffffffffffffff01")).id).toBe("-1");
    expect(encode(leaseRevoke.request, { id: "-1" })).toEqual(hex("08 ffffffffffffffffff01"));
  });

  test("that end too early or say what cannot be are refused", () => {
    const wrong = [
      "08",
      "5a05 12",
      "5a02 1205",
      "08ff",
      "5a04 1206 0a026b32",
      "2f01",
      "5a02 0a00",
      "0a80",
    ];
    for (const bytes of wrong) {
      expect(() => decode(watch.response, hex(bytes)), bytes).toThrow(RangeError);
    }
  });

  test("whatever comes is a message or a RangeError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          decode(watch.response, Buffer.from(bytes));
          decode(txn.response, Buffer.from(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
    );
  });

  test("what was written is read again", () => {
    const pair = fc.record({
      key: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      modRevision: fc.maxSafeNat(),
      value: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    });
    const answer = fc.record({
      header: fc.record({ revision: fc.maxSafeNat() }),
      kvs: fc.array(pair, { maxLength: 5 }),
      more: fc.boolean(),
    });
    fc.assert(
      fc.property(answer, (message) => {
        expect(decode(range.response, encode(range.response, message))).toEqual(message);
      }),
    );
    const ttl = { ttl: 5 };
    expect(decode(leaseKeepAlive.response, encode(leaseKeepAlive.response, ttl))).toEqual(ttl);
  });
});

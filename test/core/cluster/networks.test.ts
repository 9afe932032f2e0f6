/** Where a credential may be used from. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseNetworks } from "../../../core/cluster/networks.ts";

const includes = (networks: string[], address: string): boolean =>
  parseNetworks(networks)!.includes(address);

test("no networks at all mean anywhere", () => {
  expect(parseNetworks([])).toBeNull();
});

describe("a list of networks", () => {
  test.each([
    [["10.0.0.0/8"], "10.255.1.2", true],
    [["10.0.0.0/8"], "11.0.0.1", false],
    [["192.0.2.7/32"], "192.0.2.7", true],
    [["192.0.2.7/32"], "192.0.2.8", false],
    [["0.0.0.0/0"], "203.0.113.9", true],
    [["0.0.0.0/0"], "2001:db8::1", false],
    [["2001:db8::/32"], "2001:db8:1::1", true],
    [["2001:db8::/32"], "2001:db9::1", false],
    [["10.0.0.0/8", "2001:db8::/32"], "2001:db8::5", true],
    [["::/0"], "2001:db8::5", true],
  ])("%j and %s: %s", (networks, address, expected) => {
    expect(includes(networks, address)).toBe(expected);
  });

  test.each([
    [["10.0.0.0/8"], "::ffff:10.1.2.3", true],
    [["10.0.0.0/8"], "::ffff:11.1.2.3", false],
    [["::ffff:10.0.0.0/104"], "10.1.2.3", true],
    [["::ffff:10.0.0.0/104"], "::ffff:10.1.2.3", true],
    [["::ffff:a00:0/104"], "10.1.2.3", true],
    [["::ffff:a00:0/104"], "11.1.2.3", false],
  ])("IPv4 is the same in IPv6's clothes: %j and %s: %s", (networks, address, expected) => {
    expect(includes(networks, address)).toBe(expected);
  });

  test("does not look at the interface of a link-local address", () => {
    expect(includes(["fe80::/10"], "fe80::1%eth0")).toBe(true);
  });

  test("takes a unix socket for this machine", () => {
    expect(includes(["127.0.0.0/8"], "")).toBe(true);
    expect(includes(["::1/128"], "")).toBe(true);
    expect(includes(["10.0.0.0/8"], "")).toBe(false);
  });

  test("holds an IPv4 address exactly if its first bits say so", () => {
    const number = fc.integer({ min: 0, max: 0xffffffff });
    const dotted = (n: number): string => [24, 16, 8, 0].map((by) => (n >>> by) & 255).join(".");
    fc.assert(
      fc.property(number, number, fc.integer({ min: 0, max: 32 }), (network, address, bits) => {
        const mask = bits === 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0;
        const expected = ((network ^ address) & mask) === 0;
        const base = dotted((network & mask) >>> 0);
        expect(includes([`${base}/${bits}`], dotted(address))).toBe(expected);
        expect(includes([`${base}/${bits}`], `::ffff:${dotted(address)}`)).toBe(expected);
        const near = (network ^ (1 << (32 - bits))) >>> 0;
        if (bits > 0) expect(includes([`${base}/${bits}`], dotted(near))).toBe(bits === 0);
      }),
    );
  });
});

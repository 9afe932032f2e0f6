/**
 * The networks that a credential may be used from. Parsed once per change of its record; a lookup
 * is one call into node:net. Nothing here throws: the record's schema has checked the notation.
 */
import { BlockList, isIPv4, SocketAddress } from "node:net";

const MAPPED_PREFIX = "::ffff:";
const MAPPED_BITS = 96;
/** What a peer without an address (a unix socket) counts as: this machine. */
const LOCAL = ["127.0.0.1", "::1"] as const;

export interface Networks {
  /** Whether the address of a peer, as the kernel tells it, is inside; "" for a unix socket. */
  includes(address: string): boolean;
}

/** Null for an empty list: from anywhere. */
export function parseNetworks(networks: readonly string[]): Networks | null {
  if (networks.length === 0) return null;
  const list = new BlockList();
  for (const network of networks) {
    const slash = network.lastIndexOf("/");
    const address = normal(network.slice(0, slash));
    const bits = Number(network.slice(slash + 1));
    if (!isIPv4(network.slice(0, slash)) && isIPv4(address)) {
      // `::ffff:10.0.0.0/104` is 10.0.0.0/8; shorter than 96 bits it is more than IPv4.
      if (bits >= MAPPED_BITS) list.addSubnet(address, bits - MAPPED_BITS, "ipv4");
      else list.addSubnet(network.slice(0, slash), bits, "ipv6");
    } else {
      list.addSubnet(address, bits, isIPv4(address) ? "ipv4" : "ipv6");
    }
  }
  return {
    includes: (address) =>
      address === ""
        ? LOCAL.some((local) => contains(list, local))
        : contains(list, normal(address.replace(/%.*$/, ""))),
  };
}

const contains = (list: BlockList, address: string): boolean =>
  list.check(address, isIPv4(address) ? "ipv4" : "ipv6");

/** The shortest form; an IPv4 address that came in IPv6's clothes without them. */
function normal(address: string): string {
  if (isIPv4(address)) return address;
  const short = new SocketAddress({ address, family: "ipv6" }).address;
  const inside = short.startsWith(MAPPED_PREFIX) ? short.slice(MAPPED_PREFIX.length) : "";
  return isIPv4(inside) ? inside : short;
}

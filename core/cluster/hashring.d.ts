/** What we use of the npm package `hashring`, which brings no types of its own. */
declare module "hashring" {
  type ServerOptions = { weight?: number; vnodes?: number };
  type RingOptions = { "vnode count"?: number; replicas?: number };

  export default class HashRing {
    /** The sorted points. Not in its manual, but the only place that holds them all in order. */
    readonly ring: readonly { readonly value: number; readonly server: string }[];
    constructor(servers: Record<string, ServerOptions>, algorithm?: string, options?: RingOptions);
  }
}

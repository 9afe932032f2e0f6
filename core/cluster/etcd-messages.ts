/**
 * The messages of etcd's API that we use, as tables, and their bytes (Protocol Buffers,
 * https://protobuf.dev/programming-guides/encoding/; numbers from etcd's rpc.proto and kv.proto).
 *
 *     message: field…     field: tag varint (number << 3 | wire type), then
 *       wire type 0       varint: 7 bits a byte, lowest first, high bit set in all but the last
 *       wire type 2       length varint, so many bytes: bytes, text, a message
 *
 * Fields that the tables do not name are passed over. What is absent is read as zero, false, empty,
 * an empty list; a message that is absent is undefined.
 */

/** "id" is 64 bits that nobody counts with, as decimal digits; "count" fits a number. */
type Scalar = "bytes" | "text" | "count" | "flag" | "id";
type Type = Scalar | Shape<unknown> | readonly [Shape<unknown>];
type Fields<M> = { readonly [F in keyof M]-?: readonly [number: number, type: Type] };

interface Field {
  readonly name: string;
  readonly number: number;
  readonly type: Scalar | Shape<unknown>;
  readonly isList: boolean;
}

/** How messages of one kind look. */
export class Shape<M> {
  readonly fields: readonly Field[];
  /** By number. */
  readonly byNumber: readonly (Field | undefined)[];
  readonly #blank: object;
  readonly #lists: readonly string[];

  constructor(fields: Fields<M>) {
    this.fields = Object.entries<readonly [number, Type]>(fields).map(([name, [number, type]]) => {
      const isList = Array.isArray(type);
      return { name, number, type: (isList ? type[0] : type) as Scalar | Shape<unknown>, isList };
    });
    const byNumber: (Field | undefined)[] = [];
    for (const field of this.fields) byNumber[field.number] = field;
    this.byNumber = byNumber;
    this.#blank = Object.fromEntries(this.fields.map((field) => [field.name, blankOf(field)]));
    this.#lists = this.fields.filter(({ isList }) => isList).map(({ name }) => name);
  }

  /** What a message without bytes says. */
  blank(): Record<string, unknown> {
    const message: Record<string, unknown> = { ...this.#blank };
    for (const name of this.#lists) message[name] = [];
    return message;
  }
}

const NOTHING = Buffer.alloc(0);
const BLANKS = { bytes: NOTHING, text: "", count: 0, flag: false, id: "0" } as const;

function blankOf({ type }: Field): unknown {
  return type instanceof Shape ? undefined : BLANKS[type];
}

// ---- writing ------------------------------------------------------------------------------------

const WIRE_VARINT = 0;
const WIRE_64 = 1;
const WIRE_BYTES = 2;
const WIRE_32 = 5;

/** Fields that are undefined are left out. */
export function encode<M>(shape: Shape<M>, message: Partial<M>): Buffer {
  const parts: Buffer[] = [];
  for (const { name, number, type, isList } of shape.fields) {
    const value = message[name as keyof M];
    if (value === undefined) continue;
    for (const one of isList ? (value as unknown[]) : [value]) {
      const bytes = bytesOf(type, one);
      const isVarint = bytes === null;
      parts.push(varint(BigInt((number << 3) | (isVarint ? WIRE_VARINT : WIRE_BYTES))));
      if (isVarint) parts.push(varint(BigInt(one as number | string | boolean)));
      else parts.push(varint(BigInt(bytes.length)), bytes);
    }
  }
  return Buffer.concat(parts);
}

/** Null for what is a varint. */
function bytesOf(type: Field["type"], value: unknown): Buffer | null {
  if (type === "bytes") return value as Buffer;
  if (type === "text") return Buffer.from(value as string);
  return type instanceof Shape ? encode(type, value as object) : null;
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

// ---- reading ------------------------------------------------------------------------------------

/** Its `bytes` are views of these. Throws RangeError on what is no message. */
export function decode<M>(shape: Shape<M>, bytes: Buffer): M {
  return new Reader(bytes).message(shape, bytes.length);
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  message<M>(shape: Shape<M>, end: number): M {
    const message = shape.blank();
    while (this.#at < end) {
      const tag = this.#count();
      const wire = tag & 7;
      const field = shape.byNumber[tag >>> 3];
      if (field === undefined) this.#pass(wire);
      else if (field.isList) (message[field.name] as unknown[]).push(this.#value(field.type, wire));
      else message[field.name] = this.#value(field.type, wire);
    }
    if (this.#at !== end) throw new RangeError("a field is longer than its message");
    return message as M;
  }

  #value(type: Field["type"], wire: number): unknown {
    if (
      wire !== (type === "count" || type === "flag" || type === "id" ? WIRE_VARINT : WIRE_BYTES)
    ) {
      throw new RangeError(`wire type ${wire} where ${String(type)} belongs`);
    }
    if (type === "count") return this.#count();
    if (type === "flag") return this.#count() !== 0;
    if (type === "id") return this.#id();
    const end = this.#end();
    if (type instanceof Shape) return this.message(type, end);
    const bytes = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return type === "text" ? bytes.toString() : bytes;
  }

  /** Past the bytes that follow, whose length stands here. */
  #end(): number {
    const size = this.#count();
    const end = this.#at + size;
    if (end > this.#bytes.length) throw new RangeError("a message ends in the middle of a field");
    return end;
  }

  #pass(wire: number): void {
    if (wire === WIRE_VARINT) this.#count();
    else if (wire === WIRE_BYTES) this.#at = this.#end();
    else if (wire === WIRE_64) this.#at += 8;
    else if (wire === WIRE_32) this.#at += 4;
    else throw new RangeError(`wire type ${wire} is none`);
  }

  /** Exact below 2^53. */
  #count(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#byte();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  }

  #id(): string {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.#byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return String(BigInt.asIntN(64, value));
    }
  }

  #byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new RangeError("a message ends in the middle of a field");
    return byte;
  }
}

// ---- the tables ---------------------------------------------------------------------------------

interface Header {
  revision: number;
}
const header = new Shape<Header>({ revision: [3, "count"] });

export interface KeyValue {
  key: Buffer;
  modRevision: number;
  value: Buffer;
}
const keyValue = new Shape<KeyValue>({
  key: [1, "bytes"],
  modRevision: [3, "count"],
  value: [5, "bytes"],
});

export const SORT = { none: 0, descend: 2 } as const;

interface RangeRequest {
  key: Buffer;
  rangeEnd: Buffer;
  limit: number;
  revision: number;
  /** One of SORT. */
  sortOrder: number;
  countOnly: boolean;
}
const rangeRequest = new Shape<RangeRequest>({
  key: [1, "bytes"],
  rangeEnd: [2, "bytes"],
  limit: [3, "count"],
  revision: [4, "count"],
  sortOrder: [5, "count"],
  countOnly: [9, "flag"],
});

interface RangeResponse {
  header: Header | undefined;
  kvs: KeyValue[];
  more: boolean;
}
const rangeResponse = new Shape<RangeResponse>({
  header: [1, header],
  kvs: [2, [keyValue]],
  more: [3, "flag"],
});

interface PutRequest {
  key: Buffer;
  value: Buffer;
  lease: string;
}
const putRequest = new Shape<PutRequest>({
  key: [1, "bytes"],
  value: [2, "bytes"],
  lease: [3, "id"],
});

const deleteRangeRequest = new Shape<{ key: Buffer }>({ key: [1, "bytes"] });

/** One of them. */
export interface RequestOp {
  range?: Partial<RangeRequest>;
  put?: Partial<PutRequest>;
  deleteRange?: { key: Buffer };
}
const requestOp = new Shape<RequestOp>({
  range: [1, rangeRequest],
  put: [2, putRequest],
  deleteRange: [3, deleteRangeRequest],
});
const responseOp = new Shape<{ range: RangeResponse | undefined }>({ range: [1, rangeResponse] });

export const COMPARE_TARGET = { mod: 2 } as const;

interface Compare {
  result: number;
  /** One of COMPARE_TARGET. */
  target: number;
  key: Buffer;
  modRevision: number;
}
const compare = new Shape<Compare>({
  result: [1, "count"],
  target: [2, "count"],
  key: [3, "bytes"],
  modRevision: [6, "count"],
});

interface TxnRequest {
  compare: Partial<Compare>[];
  success: RequestOp[];
  failure: RequestOp[];
}
const txnRequest = new Shape<TxnRequest>({
  compare: [1, [compare]],
  success: [2, [requestOp]],
  failure: [3, [requestOp]],
});

export interface TxnResponse {
  header: Header | undefined;
  succeeded: boolean;
  responses: { range: RangeResponse | undefined }[];
}
const txnResponse = new Shape<TxnResponse>({
  header: [1, header],
  succeeded: [2, "flag"],
  responses: [3, [responseOp]],
});

export const EVENT = { put: 0, delete: 1 } as const;

export interface Event {
  /** One of EVENT. */
  type: number;
  kv: KeyValue | undefined;
}
const event = new Shape<Event>({ type: [1, "count"], kv: [2, keyValue] });

interface WatchCreateRequest {
  key: Buffer;
  rangeEnd: Buffer;
  startRevision: number;
  fragment: boolean;
}
const watchCreateRequest = new Shape<WatchCreateRequest>({
  key: [1, "bytes"],
  rangeEnd: [2, "bytes"],
  startRevision: [3, "count"],
  fragment: [8, "flag"],
});
const watchRequest = new Shape<{ create: WatchCreateRequest }>({ create: [1, watchCreateRequest] });

export interface WatchResponse {
  header: Header | undefined;
  created: boolean;
  canceled: boolean;
  compactRevision: number;
  cancelReason: string;
  /** The rest of this revision is yet to come. */
  fragment: boolean;
  events: Event[];
}
const watchResponse = new Shape<WatchResponse>({
  header: [1, header],
  created: [3, "flag"],
  canceled: [4, "flag"],
  compactRevision: [5, "count"],
  cancelReason: [6, "text"],
  fragment: [7, "flag"],
  events: [11, [event]],
});

/** In seconds. */
const leaseGrantRequest = new Shape<{ ttl: number }>({ ttl: [1, "count"] });
const leaseGrantResponse = new Shape<{ id: string }>({ id: [2, "id"] });
const leaseRequest = new Shape<{ id: string }>({ id: [1, "id"] });
const leaseRevokeResponse = new Shape<object>({});
/** `ttl` is in seconds, 0 for a lease that is gone. */
const leaseKeepAliveResponse = new Shape<{ ttl: number }>({ ttl: [3, "count"] });

interface Authenticate {
  name: string;
  password: string;
}
const authenticateRequest = new Shape<Authenticate>({ name: [1, "text"], password: [2, "text"] });
const authenticateResponse = new Shape<{ token: string }>({ token: [2, "text"] });

/** A method of the API: what it is asked, what it answers. */
export interface Method<Q, R> {
  readonly path: string;
  readonly request: Shape<Q>;
  readonly response: Shape<R>;
}

function method<Q, R>(name: string, request: Shape<Q>, response: Shape<R>): Method<Q, R> {
  return { path: `/etcdserverpb.${name}`, request, response };
}

export const METHODS = {
  range: method("KV/Range", rangeRequest, rangeResponse),
  txn: method("KV/Txn", txnRequest, txnResponse),
  watch: method("Watch/Watch", watchRequest, watchResponse),
  leaseGrant: method("Lease/LeaseGrant", leaseGrantRequest, leaseGrantResponse),
  leaseRevoke: method("Lease/LeaseRevoke", leaseRequest, leaseRevokeResponse),
  leaseKeepAlive: method("Lease/LeaseKeepAlive", leaseRequest, leaseKeepAliveResponse),
  authenticate: method("Auth/Authenticate", authenticateRequest, authenticateResponse),
} as const;

/**
 * XML as XMPP has it (RFC 6120, 11): a stream is one long element, its children are stanzas. Bytes
 * in; the stream's header, whole stanzas, or a named failure out. Bounded: a stanza that is larger
 * or deeper than anything we act on is skipped, since strangers can send such; one beyond what
 * servers forward ends the stream. Comments, instructions and document types are not XMPP.
 */
import { SaxesParser } from "saxes";

/** Bytes of one stanza that are kept; a larger one is skipped, and counted as a stanza. */
const STANZA_SIZE_MAX = 64 * 1024;
/** Bytes of one stanza at which the stream is given up. Servers forward less (prosody 256 KB). */
const STREAM_STANZA_SIZE_MAX = 1024 * 1024;
const DEPTH_MAX = 16;
/** Sizes are counted in steps of this many bytes, so a stanza is charged little of its neighbours. */
const SLICE_SIZE = 4 * 1024;
const XML_NAMESPACE = "http://www.w3.org/XML/1998/namespace";

export interface Element {
  /** Without its prefix. */
  readonly name: string;
  /** The namespace it is in. */
  readonly xmlns: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly (Element | string)[];
}

interface Building extends Element {
  readonly children: (Element | string)[];
}

export interface StanzaEvents {
  /** The stream's own element: its attributes; the children are the stanzas. */
  opened(header: Element): void;
  stanza(stanza: Element): void;
  /** One was too large or too deep to be kept; its name is known. */
  skipped(name: string): void;
  /** `</stream:stream>`: nothing follows. */
  ended(): void;
  /** Nothing is read after it. */
  failed(reason: "malformed" | "too_large", detail: string): void;
}

/** Reads one stream from its header on; a restarted stream has a new reader. */
export class StanzaReader {
  readonly #parser = new SaxesParser({ xmlns: false, position: false });
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  readonly #events: StanzaEvents;
  /** The stream's element and those of the stanza being read, outermost first. */
  readonly #open: Building[] = [];
  #depth = 0;
  #size = 0;
  /** What is being read is not kept. */
  #isSkipping = false;
  #isOver = false;

  constructor(events: StanzaEvents) {
    this.#events = events;
    const parser = this.#parser;
    parser.on("error", (error) => this.#fail("malformed", error.message));
    for (const kind of ["comment", "doctype", "processinginstruction"] as const) {
      parser.on(kind, () => this.#fail("malformed", `${kind} in a stream`));
    }
    parser.on("opentag", (tag) => this.#opened(tag.name, tag.attributes));
    parser.on("closetag", () => this.#closed());
    parser.on("text", (text) => this.#text(text));
    parser.on("cdata", (text) => this.#text(text));
  }

  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.#isOver; at += SLICE_SIZE) {
      this.#read(bytes.subarray(at, at + SLICE_SIZE));
    }
  }

  /** Nothing more is told, whatever is still being read. */
  close(): void {
    this.#isOver = true;
  }

  #read(bytes: Uint8Array): void {
    this.#size += bytes.length;
    if (this.#size > STANZA_SIZE_MAX) this.#skip();
    if (this.#size > STREAM_STANZA_SIZE_MAX) return this.#fail("too_large", "");
    let text: string;
    try {
      text = this.#decoder.decode(bytes, { stream: true });
    } catch {
      return this.#fail("malformed", "not UTF-8"); // The only thing that a decoder says.
    }
    this.#parser.write(text);
  }

  #opened(qualified: string, attributes: Readonly<Record<string, string>>): void {
    if (this.#isOver) return;
    this.#depth += 1;
    if (this.#depth > DEPTH_MAX) this.#skip();
    if (this.#isSkipping && this.#depth > 2) return;
    const element = this.#element(qualified, attributes);
    if (this.#depth === 1) this.#events.opened(element);
    else if (this.#depth > 2) this.#open.at(-1)?.children.push(element);
    this.#open.push(element);
    if (this.#size > STANZA_SIZE_MAX) this.#skip();
  }

  #closed(): void {
    if (this.#isOver) return;
    this.#depth -= 1;
    if (this.#depth === 0) {
      this.#isOver = true;
      return this.#events.ended();
    }
    if (this.#isSkipping && this.#depth > 1) return;
    const element = this.#open.pop();
    if (this.#depth > 1 || element === undefined) return;
    const wasSkipped = this.#isSkipping;
    this.#isSkipping = false;
    this.#size = 0; // A chunk that holds several stanzas is charged to none of them.
    if (wasSkipped) this.#events.skipped(element.name);
    else this.#events.stanza(element);
  }

  #text(text: string): void {
    if (this.#isOver || this.#isSkipping) return;
    // Between stanzas only whitespace is legal: keepalives.
    if (this.#depth > 1) this.#open.at(-1)?.children.push(text);
    else if (text.trim() !== "") this.#fail("malformed", "text between stanzas");
    else this.#size = 0;
  }

  /** Keeps the stanza itself, for its name, and drops what is in it. */
  #skip(): void {
    if (this.#depth < 2) return;
    this.#isSkipping = true;
    this.#open.length = Math.min(this.#open.length, 2);
    this.#open[1]?.children.splice(0);
  }

  #fail(reason: "malformed" | "too_large", detail: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#events.failed(reason, detail.slice(0, 200));
  }

  #element(qualified: string, attributes: Readonly<Record<string, string>>): Building {
    const colon = qualified.indexOf(":");
    const prefix = qualified.slice(0, Math.max(colon, 0));
    const declaration = prefix === "" ? "xmlns" : `xmlns:${prefix}`;
    const around = this.#open.findLast((one) => declaration in one.attributes);
    const xmlns =
      prefix === "xml"
        ? XML_NAMESPACE
        : (attributes[declaration] ?? around?.attributes[declaration] ?? "");
    return { name: qualified.slice(colon + 1), xmlns, attributes, children: [] };
  }
}

/** The first child of that name and namespace. */
export function childOf(parent: Element, name: string, xmlns: string): Element | undefined {
  return elementsOf(parent).find((child) => child.name === name && child.xmlns === xmlns);
}

export function elementsOf(parent: Element): Element[] {
  return parent.children.filter((child) => typeof child !== "string");
}

/** Its own text, without that of elements in it. */
export function textOf(element: Element): string {
  return element.children.filter((child) => typeof child === "string").join("");
}

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&apos;",
  // In attributes they would become blanks; a carriage return would be lost anywhere.
  "\t": "&#9;",
  "\n": "&#10;",
  "\r": "&#13;",
};

/** What XML 1.0 cannot carry, not even escaped. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const ILLEGAL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;

/** Any string as text or attribute value: escaped, and what XML cannot carry replaced. */
export function escaped(text: string): string {
  const legal = text.toWellFormed().replace(ILLEGAL, "\ufffd");
  return legal.replace(/[&<>"'\t\n\r]/g, (character) => ESCAPES[character] ?? character);
}

/** One element as markup: attributes are escaped here, `contents` are markup already. */
export function markup(
  name: string,
  attributes: Readonly<Record<string, string | undefined>>,
  ...contents: readonly string[]
): string {
  const given = Object.entries(attributes).filter(([, value]) => value !== undefined);
  const begin = [name, ...given.map(([key, value]) => `${key}="${escaped(value ?? "")}"`)];
  if (contents.length === 0) return `<${begin.join(" ")}/>`;
  return `<${begin.join(" ")}>${contents.join("")}</${name}>`;
}

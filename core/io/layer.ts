/**
 * Which layer moves the bytes: `native` where its addon was built, else `net`. Everything above is
 * the same for both.
 */
import { Refusal } from "../runtime/process.ts";
import type { Loop } from "./loop.ts";
import { type Addon, loadAddon, NativeLayer } from "./native.ts";
import { NetLayer } from "./net.ts";
import { IO_CHOICES, type IoChoice, type Layer, type LayerName } from "./wire.ts";

/** The same row for every role. */
export const IO_LAYER_METRIC = {
  name: "memward_io_layer",
  kind: "gauge",
  labels: ["layer"],
  help: "1 for the layer that moves the bytes: native (our addon) or net (Node's sockets).",
} as const;

type Loaded = { addon: Addon } | { problem: string };
let loaded: Loaded | undefined;

/** What a role logs: who moves its bytes, and why it is not the native layer. */
export function layerFacts({ io }: Loop): { io: LayerName; because?: string } {
  if (io === "native") return { io };
  return { io, because: nativeProblem() ?? "it was asked for" };
}

/** Why there is no native layer here; undefined when there is one. */
export function nativeProblem(): string | undefined {
  const found = load();
  return "problem" in found ? found.problem : undefined;
}

/** Throws a refusal when `native` is asked for and was not built. */
export function openLayer(loop: Loop, choice: IoChoice): Layer {
  const wanted = choice === "auto" ? fromEnvironment() : choice;
  const net = new NetLayer(loop);
  if (wanted === "net") return net;
  const found = load();
  if ("addon" in found) return new NativeLayer(loop, found.addon, net);
  if (wanted === "auto") return net;
  throw new Refusal(`io: native cannot be used here, net could be: ${found.problem}`);
}

function load(): Loaded {
  if (loaded === undefined) {
    try {
      loaded = { addon: loadAddon() };
    } catch (error) {
      loaded = { problem: (error as Error).message.split("\n", 1)[0] ?? "" };
    }
  }
  return loaded;
}

/** For whoever has no options: a test, a bench, a role whose section leaves it open. */
function fromEnvironment(): IoChoice {
  const given = process.env["MEMWARD_IO"];
  return IO_CHOICES.find((choice) => choice === given) ?? "auto";
}

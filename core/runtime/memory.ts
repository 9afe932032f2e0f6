/**
 * Keeps the idle memory of a process small; there are many of them. Measured on Node 26: zod's 50
 * translations, which nobody asks for, cost 7 MB in each process, and what the start leaves behind
 * on the heap costs 4 MB until the next full collection, which an idle process never makes.
 */

import { registerHooks } from "node:module";
import { totalmem } from "node:os";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { sleep } from "./clock.ts";

const SETTLED_MS = 1_000;

/**
 * Loads zod, for all who import it later, without its translations (English is not one of them).
 * The hook is taken back at once, because it makes every later import do more work.
 */
export async function loadZodLean(): Promise<void> {
  const hook = registerHooks({
    resolve(specifier, context, next) {
      const unwanted =
        specifier.endsWith("/locales/index.js") &&
        context.parentURL?.includes("/node_modules/zod/");
      if (unwanted) return { url: "data:text/javascript,export {}", shortCircuit: true };
      return next(specifier, context);
    },
  });
  await import("zod");
  hook.deregister();
}

/** Used share of the memory that this machine, or the container it is, has. */
export function memoryUsed(): number {
  const constrained = process.constrainedMemory();
  const size = constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
  return Math.min(1, Math.max(0, 1 - process.availableMemory() / size));
}

/** Collects the garbage of the start, once; later the collector knows better than we do. */
export async function collectStartGarbage(): Promise<void> {
  await sleep(SETTLED_MS);
  collectGarbage();
}

/**
 * A full collection now, which also gives back what the young generation grew to: an idle process
 * never makes one by itself. It stops the process for some 10 ms per 10 MB: in calm moments only.
 */
export function collectGarbage(): void {
  // The flag is taken back at once: it is part of what makes compiled code in the cache valid.
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  setFlagsFromString("--no-expose-gc");
  if (typeof collect === "function") collect({ type: "major", flavor: "last-resort" });
}

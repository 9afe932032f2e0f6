/** Options of the control role. */
import { z } from "zod";
import { addressOption } from "../core/runtime/config.ts";

export const controlOptions = z.strictObject({
  ops: addressOption().describe("address of the health page and the metrics"),
});
export type ControlOptions = z.infer<typeof controlOptions>;

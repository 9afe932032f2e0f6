/** Suites that need real parts say so: without them they are skipped, and say why by name. */
import { describe } from "vitest";
import { missing } from "../harness/processes.ts";

export function describeWith(
  programs: readonly string[],
  name: string,
  define: () => void,
  absent: string | undefined = missing(...programs),
): void {
  if (absent === undefined) describe(name, define);
  else describe.skip(`${name} [skipped: ${absent}]`, define);
}
